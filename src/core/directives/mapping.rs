//! Directives that choose the script of a URL and its interpreter [M-1].

use super::arguments::{
    ON_OFF, auxiliary_script, group_name, on_off, one, option, parse_on_off, script_path,
    unknown_option,
};
use super::directive::{Context, Directive, Effect, Target};
use crate::config::conf_words::Words;
use crate::config::{HandlerScript, ImportScript};
use crate::request::alias::{ScriptAlias, ScriptOptions};
use crate::request::group::literal_group;

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive {
        name: "WSGIScriptAlias",
        context: Context::Server,
        syntax: "URL-path file-or-directory [process-group=name] [application-group=name] [callable-object=name] [pass-authorization=On|Off]",
        default: "",
        help: "Maps a URL path to a WSGI script, or to a directory of such scripts. The first alias that matches wins, so write longer ones first.",
        example: "WSGIScriptAlias /blog /srv/blog/wsgi.py application-group=blog\nWSGIScriptAlias / /srv/site/wsgi.py",
        difference: "callable-object= is expanded as WSGICallableObject is.",
        parse: |args, target| alias(args, target, false),
        ..ON_OFF
    },
    Directive {
        name: "WSGIScriptAliasMatch",
        context: Context::Server,
        syntax: "regex file-or-directory [process-group=name] [application-group=name] [callable-object=name] [pass-authorization=On|Off]",
        default: "",
        help: "Maps the URLs that a regular expression matches to WSGI scripts; the file may contain $0 to $9.",
        example: "WSGIScriptAliasMatch ^/users/([^/]+) /srv/users/$1.wsgi",
        parse: |args, target| alias(args, target, true),
        ..ON_OFF
    },
    Directive {
        name: "WSGIHandlerScript",
        context: Context::Directory,
        syntax: "handler-name script [process-group=name] [application-group=name] [pass-authorization=On|Off]",
        default: "",
        help: "Defines a handler for SetHandler and AddHandler: handle_request of the script serves the resource.",
        example: "WSGIHandlerScript markdown /srv/handlers/markdown.py\nAddHandler markdown .md",
        parse: handler_script,
        ..ON_OFF
    },
    Directive {
        name: "WSGIImportScript",
        context: Context::Server,
        syntax: "script process-group=name application-group=name",
        default: "",
        help: "Loads a script when a child starts, ahead of its first request.",
        example: "WSGIImportScript /srv/site/wsgi.py process-group=%{GLOBAL} application-group=%{GLOBAL}",
        difference: "The script is loaded in the httpd children, whatever the process group, as there are no daemon processes.",
        parse: import_script,
        ..ON_OFF
    },
    Directive {
        name: "WSGIDispatchScript",
        context: Context::Directory,
        syntax: "script [application-group=name]",
        default: "",
        help: "Names a script that chooses the process group, application group and callable of each request.",
        example: "WSGIDispatchScript /srv/site/dispatch.py",
        effect: Effect::Later(
            "the script is not called yet, so requests keep the groups and the callable that the configuration gives them",
        ),
        parse: |args, target| {
            target.dir()?.dispatch_script = Some(auxiliary_script(args)?);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIProcessGroup",
        context: Context::Directory,
        syntax: "name|%{GLOBAL}|%{RESOURCE}|%{SERVER}|%{HOST}|%{ENV:variable}",
        default: "%{GLOBAL}",
        help: "Names the group of daemon processes that serves the application.",
        example: "WSGIDaemonProcess site\nWSGIProcessGroup site",
        parse: |args, target| {
            target.dir()?.process_group = Some(one(args)?);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIApplicationGroup",
        context: Context::Directory,
        syntax: "name|%{GLOBAL}|%{RESOURCE}|%{SERVER}|%{HOST}|%{ENV:variable}",
        default: "%{RESOURCE}",
        help: "Names the interpreter that runs the application; %{GLOBAL} is the main interpreter of the process.",
        example: "WSGIApplicationGroup %{GLOBAL}",
        difference: "Under WSGIInterpreter auto, the default, the only application group of a server runs in the main interpreter, where every package can be imported. Its name stays what mod_wsgi would give it.",
        parse: |args, target| {
            target.dir()?.application_group = Some(one(args)?);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGICallableObject",
        context: Context::FileInfo,
        syntax: "name|%{ENV:variable}",
        default: "application",
        help: "Names the global of the script that is the application.",
        example: "WSGICallableObject app",
        parse: |args, target| {
            target.dir()?.callable_object = Some(one(args)?);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIRestrictProcess",
        context: Context::Directory,
        syntax: "name ...",
        default: "",
        help: "Lists the groups of daemon processes that may be chosen here.",
        example: "<Directory /srv/users>\n    WSGIRestrictProcess site reports\n</Directory>",
        parse: restrict_process,
        ..ON_OFF
    },
    Directive {
        name: "WSGIRestrictEmbedded",
        help: "On: applications may not run in the httpd children; their requests are answered with 500.",
        example: "WSGIRestrictEmbedded Off",
        parse: |args, target| {
            target.server()?.python.restrict_embedded = on_off(args)?;
            Ok(())
        },
        ..ON_OFF
    },
];

fn alias(args: &str, target: &mut Target<'_>, regex: bool) -> Result<(), String> {
    let mut words = Words::new(args);
    let (Some(location), Some(file)) = (words.next(), words.next()) else {
        return Err("takes at least two arguments, the URL and the file".into());
    };
    let options = script_options(words, ALIAS_OPTIONS)?;
    target.server()?.add_alias(ScriptAlias {
        location,
        target: file,
        regex,
        options,
    });
    Ok(())
}

fn handler_script(args: &str, target: &mut Target<'_>) -> Result<(), String> {
    let mut words = Words::new(args);
    let handler = words.next().filter(|name| !name.is_empty());
    let handler = handler.ok_or("the name of the handler is missing")?;
    let script = script_path(&mut words)?;
    let options = script_options(words, HANDLER_OPTIONS)?;
    target.dir()?.set_handler_script(HandlerScript {
        handler,
        script,
        options,
    });
    Ok(())
}

fn import_script(args: &str, target: &mut Target<'_>) -> Result<(), String> {
    let mut words = Words::new(args);
    let script = script_path(&mut words)?;
    let options = script_options(words, IMPORT_OPTIONS)?;
    let application_group = options
        .application_group
        .ok_or("application-group= is missing")?;
    let process_group = options.process_group.ok_or("process-group= is missing")?;
    target.server()?.import_scripts.push(ImportScript {
        script,
        process_group,
        application_group,
        location: String::new(),
    });
    Ok(())
}

/// Parses the options in the rest of a line, all of which must be among `permitted`.
fn script_options(mut words: Words<'_>, permitted: &[&str]) -> Result<ScriptOptions, String> {
    let mut options = ScriptOptions::default();
    while !words.is_empty() {
        let (name, value) = option(&mut words)?;
        if !permitted.contains(&name) {
            return Err(unknown_option(name, &format!("{}=", permitted.join("=, "))));
        }
        match name {
            "process-group" => options.process_group = Some(group_name(name, value)?),
            "application-group" => options.application_group = Some(group_name(name, value)?),
            "callable-object" if value.is_empty() => {
                return Err("callable-object= lacks a name".into());
            }
            "callable-object" => options.callable_object = Some(value),
            _ => {
                let on = parse_on_off(&value).map_err(|problem| format!("{name}: {problem}"))?;
                options.pass_authorization = Some(on);
            }
        }
    }
    Ok(options)
}

fn restrict_process(args: &str, target: &mut Target<'_>) -> Result<(), String> {
    let names = Words::new(args).map(literal_group);
    target.dir()?.restrict_process = Some(names.collect());
    Ok(())
}

const ALIAS_OPTIONS: &[&str] = &[
    "process-group",
    "application-group",
    "callable-object",
    "pass-authorization",
];
const HANDLER_OPTIONS: &[&str] = &["process-group", "application-group", "pass-authorization"];
const IMPORT_OPTIONS: &[&str] = &["process-group", "application-group"];
