//! Directives for scripts that authenticate and authorize [M-1].

use super::arguments::{ON_OFF, auxiliary_script};
use super::directive::{Context, Directive, Effect};

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive {
        name: "WSGIAccessScript",
        help: "Names a script whose allow_access decides by the client's host.",
        example: "<Location /internal>\n    WSGIAccessScript /srv/site/access.py\n</Location>",
        effect: Effect::Later(
            "allow_access is not called yet, so it denies nobody; use Require in the meantime",
        ),
        parse: |args, target| {
            target.dir()?.access_script = Some(auxiliary_script(args)?);
            Ok(())
        },
        ..SCRIPT
    },
    Directive {
        name: "WSGIAuthUserScript",
        help: "Names a script whose check_password or get_realm_hash backs AuthBasicProvider wsgi and AuthDigestProvider wsgi.",
        example: "<Location /members>\n    WSGIAuthUserScript /srv/site/auth.py\n</Location>",
        effect: Effect::Later(
            "the provider wsgi does not exist yet; it will ask the script for passwords",
        ),
        parse: |args, target| {
            target.dir()?.auth_user_script = Some(auxiliary_script(args)?);
            Ok(())
        },
        ..SCRIPT
    },
    Directive {
        name: "WSGIAuthGroupScript",
        help: "Names a script whose groups_for_user backs Require wsgi-group.",
        example: "<Location /members>\n    WSGIAuthGroupScript /srv/site/auth.py application-group=%{GLOBAL}\n</Location>",
        effect: Effect::Later(
            "Require wsgi-group does not exist yet; it will ask the script for groups",
        ),
        parse: |args, target| {
            target.dir()?.auth_group_script = Some(auxiliary_script(args)?);
            Ok(())
        },
        ..SCRIPT
    },
    Directive {
        name: "WSGIGroupAuthoritative",
        context: Context::AuthConfig,
        default: "On",
        help: "Says whether other modules may authorize as well.",
        example: "<Location /members>\n    WSGIGroupAuthoritative Off\n</Location>",
        effect: Effect::Nothing("mod_wsgi never asks for it"),
        ..ON_OFF
    },
];

const SCRIPT: Directive = Directive {
    context: Context::AuthConfig,
    syntax: "script [application-group=name]",
    default: "",
    ..ON_OFF
};
