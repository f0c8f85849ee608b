/* The input of bindgen. The allow-list in build.rs chooses from it. */
#include "ap_config.h"
#include "ap_mpm.h"
#include "ap_release.h"
#include "httpd.h"
#include "http_config.h"
#include "http_connection.h"
#include "http_core.h"
#include "http_log.h"
#include "http_main.h"
#include "http_protocol.h"
#include "http_request.h"
#include "http_vhost.h"
#include "ap_listen.h"
#include "mod_core.h"
#include "mpm_common.h"
#include "scoreboard.h"
#include "unixd.h"
#include "util_filter.h"
#include "apr_buckets.h"
#include "apr_portable.h"
#include "apr_strings.h"
#include "apr_tables.h"
#include "apr_optional.h"
#include "apr_optional_hooks.h"
#include "apr_thread_proc.h"

/* The functions of shim.c, for Rust, which cannot use macros. */
void wsgi_shim_insert_tail(apr_bucket_brigade *brigade, apr_bucket *bucket);
apr_bucket *wsgi_shim_first(apr_bucket_brigade *brigade);
int wsgi_shim_is_eos(apr_bucket *bucket);
int wsgi_shim_is_metadata(apr_bucket *bucket);
apr_status_t wsgi_shim_read(apr_bucket *bucket, const char **data, apr_size_t *len);
apr_status_t wsgi_shim_split(apr_bucket *bucket, apr_size_t at);
void wsgi_shim_delete(apr_bucket *bucket);
int wsgi_shim_log_level(const request_rec *r, int module_index);
int wsgi_shim_server_log_level(const server_rec *s, int module_index);
int wsgi_shim_cgi_pass_auth(const request_rec *r);
int wsgi_shim_request_uri_is_current(const request_rec *r);
const char *wsgi_shim_redirect_url(request_rec *r);
void wsgi_shim_keepalive_off(request_rec *r);
void wsgi_shim_end_expecting_100(request_rec *r);
void wsgi_shim_refuse_ranges(request_rec *r);
int wsgi_shim_reads_from_protocol(const request_rec *r);
int wsgi_shim_keeps_length(const request_rec *r);
int wsgi_shim_runs_requests(const request_rec *r);
int wsgi_shim_head_sent(const request_rec *r);
int wsgi_shim_aborted(const request_rec *r);
void wsgi_shim_set_aborted(request_rec *r);
int wsgi_shim_client_socket(const request_rec *r);
int wsgi_shim_shares_connection(const request_rec *r);
void wsgi_shim_client_timeout(const request_rec *r, apr_interval_time_t timeout);
int wsgi_shim_handler_is_guarded(request_rec *r, const char *handler);
int wsgi_shim_generation(void);
int wsgi_shim_is_ungraceful(void);
