/* What Rust cannot call or read: macros of httpd and APR that have no symbol, and bit-fields. */
#include "httpd.h"
#include "http_config.h"
#include "http_core.h"
#include "http_request.h"
#include "http_log.h"
#include "http_protocol.h"
#include "util_filter.h"
#include "mod_core.h"
#include "apr_buckets.h"
#include "apr_fnmatch.h"
#include "ap_expr.h"
#include "apr_portable.h"
#include "apr_strings.h"
#include "apr_optional.h"
#include "apr_version.h"
#include "mpm_common.h"
#include "unixd.h"

void wsgi_shim_insert_tail(apr_bucket_brigade *brigade, apr_bucket *bucket)
{
    APR_BRIGADE_INSERT_TAIL(brigade, bucket);
}

apr_bucket *wsgi_shim_first(apr_bucket_brigade *brigade)
{
    return APR_BRIGADE_EMPTY(brigade) ? NULL : APR_BRIGADE_FIRST(brigade);
}

int wsgi_shim_is_eos(apr_bucket *bucket)
{
    return APR_BUCKET_IS_EOS(bucket);
}

int wsgi_shim_is_metadata(apr_bucket *bucket)
{
    return APR_BUCKET_IS_METADATA(bucket);
}

apr_status_t wsgi_shim_read(apr_bucket *bucket, const char **data, apr_size_t *len)
{
    return apr_bucket_read(bucket, data, len, APR_BLOCK_READ);
}

void wsgi_shim_delete(apr_bucket *bucket)
{
    apr_bucket_delete(bucket);
}

int wsgi_shim_log_level(const request_rec *r, int module_index)
{
    return ap_get_request_module_loglevel(r, module_index);
}

int wsgi_shim_server_log_level(const server_rec *s, int module_index)
{
    return ap_get_server_module_loglevel(s, module_index);
}

int wsgi_shim_cgi_pass_auth(const request_rec *r)
{
    core_dir_config *conf = ap_get_core_module_config(r->per_dir_config);
    return conf->cgi_pass_auth == AP_CGI_PASS_AUTH_ON;
}

int wsgi_shim_request_uri_is_current(const request_rec *r)
{
    core_dir_config *conf = ap_get_core_module_config(r->per_dir_config);
    const char *rule;
    if (!conf->cgi_var_rules)
        return 0;
    rule = apr_hash_get(conf->cgi_var_rules, "REQUEST_URI", APR_HASH_KEY_STRING);
    return rule && !strcmp(rule, "current-uri");
}

void wsgi_shim_keepalive_off(request_rec *r)
{
    r->connection->keepalive = AP_CONN_CLOSE;
}

/* If the client was never told to send its body, the connection cannot be used after the response. */
void wsgi_shim_end_expecting_100(request_rec *r)
{
    if (r->expecting_100)
        r->connection->keepalive = AP_CONN_CLOSE;
    r->expecting_100 = 0;
}

/* Removes the filter for byte ranges from the output of a request, if it is there. */
void wsgi_shim_refuse_ranges(request_rec *r)
{
    ap_filter_t *f, *next;
    for (f = r->output_filters; f; f = next) {
        next = f->next;
        if (f->frec == ap_byterange_filter_handle)
            ap_remove_output_filter(f);
    }
}

/* Returns whether the body comes from the HTTP filter of httpd or mod_http2, with only connection filters below it.
 * Those support reads that do not block, as httpd itself makes them between two requests. Content filters need not, and
 * some crash on a brigade that is still empty (mod_request). */
int wsgi_shim_reads_from_protocol(const request_rec *r)
{
    const ap_filter_t *f;
    for (f = r->input_filters; f; f = f->next) {
        if (f->frec->ftype >= AP_FTYPE_CONNECTION || f->frec == ap_http_input_filter_handle)
            continue;
        if (f->frec->ftype < AP_FTYPE_PROTOCOL
            || (strcmp(f->frec->name, "h2_c2_request_in") && strcmp(f->frec->name, "h2_request")))
            return 0;
    }
    return 1;
}

/* Returns whether the input filters are known to keep the length of the body that the client has announced. */
int wsgi_shim_keeps_length(const request_rec *r)
{
    /* These only read the body or store it. mod_deflate removes itself if the body is not compressed. */
    static const char *const keep[] = { "buffer", "kept_body", "keep_body", "modsecurity_in", NULL };
    const char *encoding = apr_table_get(r->headers_in, "Content-Encoding");
    const char *const *name;
    const ap_filter_t *f;
    for (f = r->input_filters; f && f->frec->ftype < AP_FTYPE_PROTOCOL; f = f->next) {
        for (name = keep; *name && strcmp(f->frec->name, *name); name++)
            ;
        if (!*name && (strcmp(f->frec->name, "deflate") || (encoding && ap_strcasestr(encoding, "gzip"))))
            return 0;
    }
    return 1;
}

/* Returns whether a content filter of the response makes subrequests while it runs (mod_include). */
int wsgi_shim_runs_requests(const request_rec *r)
{
    const ap_filter_t *f;
    for (f = r->output_filters; f && f->frec->ftype < AP_FTYPE_PROTOCOL; f = f->next) {
        if (!strcmp(f->frec->name, "includes"))
            return 1;
    }
    return 0;
}

/* Returns whether the head of the response has been written. */
int wsgi_shim_head_sent(const request_rec *r)
{
    return r->sent_bodyct != 0 || r->bytes_sent != 0;
}

int wsgi_shim_aborted(const request_rec *r)
{
    return r->connection->aborted;
}

/* Returns the socket; -1 if there is none, -2 if httpd has closed it, as it does when it stops ungracefully. */
int wsgi_shim_client_socket(const request_rec *r)
{
    conn_rec *c = r->connection->master ? r->connection->master : r->connection;
    apr_socket_t *socket = ap_get_conn_socket(c);
    apr_os_sock_t fd = -1;
    if (!socket || apr_os_sock_get(&fd, socket) != APR_SUCCESS)
        return -1;
    return fd >= 0 ? fd : -2;
}

int wsgi_shim_shares_connection(const request_rec *r)
{
    return r->connection->master != NULL;
}

void wsgi_shim_client_timeout(const request_rec *r, apr_interval_time_t timeout)
{
    apr_socket_t *socket = ap_get_conn_socket(r->connection);
    if (socket) {
        apr_socket_timeout_set(socket, timeout);
    }
}

void wsgi_shim_set_aborted(request_rec *r)
{
    r->connection->aborted = 1;
}

apr_status_t wsgi_shim_split(apr_bucket *bucket, apr_size_t at)
{
    return apr_bucket_split(bucket, at);
}

/* Returns REDIRECT_URL as ap_add_cgi_vars makes it: the path, or the whole URL with QualifyRedirectURL On. */
const char *wsgi_shim_redirect_url(request_rec *r)
{
    core_dir_config *conf = ap_get_core_module_config(r->per_dir_config);
    apr_uri_t uri;

    if (conf->qualify_redirect_url != AP_CORE_CONFIG_ON)
        return r->prev->uri;
    uri = r->prev->parsed_uri;
    if (!uri.scheme)
        uri.scheme = (char *)ap_http_scheme(r->prev);
    if (!uri.port) {
        uri.port = ap_get_server_port(r->prev);
        uri.port_str = apr_psprintf(r->pool, "%u", uri.port);
    }
    uri.hostname = (char *)ap_get_server_name_for_url(r->prev);
    return apr_uri_unparse(r->pool, &uri, 0);
}

/* Whether a request is in a <Location> (`text` is the path of its URL) or a <Directory> (`text` is its file). */
enum holds { NO, PERHAPS, YES };

static enum holds holds(const core_dir_config *section, const char *text, int is_url)
{
    apr_size_t length;

    /* A pattern may match any folder above the file, which is not checked here. */
    if (!section->d || (!is_url && (section->r || section->d_is_fnmatch)))
        return PERHAPS;
    if (section->r)
        return ap_regexec(section->r, text, 0, NULL, 0) ? NO : YES;
    if (section->d_is_fnmatch)
        return apr_fnmatch(section->d, text, APR_FNM_PATHNAME) ? NO : YES;
    length = strlen(section->d);
    if (strncmp(section->d, text, length))
        return NO;
    return !length || section->d[length - 1] == '/' || text[length] == '/' || !text[length] ? YES : NO;
}

/* Returns whether a section sets this handler for a request. SetHandler takes an expression. */
static int sets_handler(const core_dir_config *section, request_rec *r, const char *handler)
{
    const char *error = NULL, *set = NULL;

    if (section->expr_handler)
        set = ap_expr_str_exec(r, section->expr_handler, &error);
    return set && !error && !strcmp(set, handler);
}

/* Counts in `found` the sections that surely hold a request and set this handler, and in `open` those that surely or
 * perhaps do so and have no Require. A section that perhaps holds the request is not in `found`: the handler may come
 * from an .htaccess file instead. */
static void count_sections(const apr_array_header_t *sections, request_rec *r, int is_url, const char *handler,
                           int *found, int *open)
{
    static const char *const names[] = { "mod_authz_core.c", "mod_access_compat.c", NULL };
    const char *const *name, *text = is_url ? r->uri : r->filename;
    int i;

    for (i = 0; sections && text && i < sections->nelts; i++) {
        ap_conf_vector_t *section = APR_ARRAY_IDX(sections, i, ap_conf_vector_t *);
        const core_dir_config *conf = section ? ap_get_core_module_config(section) : NULL;
        enum holds held = conf ? holds(conf, text, is_url) : NO;
        int guarded = 0;
        if (held == NO || !sets_handler(conf, r, handler))
            continue;
        for (name = names; *name; name++) {
            const module *m = ap_find_linked_module(*name);
            if (m && ap_get_module_config(section, m))
                guarded = 1;
        }
        if (held == YES)
            ++*found;
        if (!guarded)
            ++*open;
    }
}

/* Returns whether each <Location> and <Directory> that sets this handler for the request also has a Require. */
int wsgi_shim_handler_is_guarded(request_rec *r, const char *handler)
{
    const core_server_config *conf = ap_get_core_module_config(r->server->module_config);
    int found = 0, open = 0;

    count_sections(conf->sec_url, r, 1, handler, &found, &open);
    count_sections(conf->sec_dir, r, 0, handler, &found, &open);
    return found && !open;
}

int wsgi_shim_generation(void)
{
    return ap_unixd_mpm_get_retained_data()->my_generation;
}

int wsgi_shim_is_ungraceful(void)
{
    return ap_unixd_mpm_get_retained_data()->is_ungraceful;
}
