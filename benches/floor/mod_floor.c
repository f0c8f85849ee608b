/*
 * The floor: the cost of httpd itself for the benchmark's request.
 *
 * Sends the bytes of app.wsgi with the same two headers, from a constant, in one brigade. The cost of a WSGI module is
 * counted above this. It is written in C, so that it contains nothing of ours.
 */
#include "httpd.h"
#include "http_config.h"
#include "http_protocol.h"
#include "util_filter.h"

static const char body[] = "Hello world\n";

static int answer(request_rec *r)
{
    apr_bucket_brigade *brigade;
    apr_bucket_alloc_t *buckets = r->connection->bucket_alloc;

    if (!r->handler || strcmp(r->handler, "floor") != 0)
        return DECLINED;

    ap_set_content_type(r, "text/plain");
    ap_set_content_length(r, sizeof(body) - 1);

    brigade = apr_brigade_create(r->pool, buckets);
    APR_BRIGADE_INSERT_TAIL(brigade, apr_bucket_immortal_create(body, sizeof(body) - 1, buckets));
    APR_BRIGADE_INSERT_TAIL(brigade, apr_bucket_eos_create(buckets));
    ap_pass_brigade(r->output_filters, brigade);
    return OK;
}

static void register_hooks(apr_pool_t *pool)
{
    (void)pool;
    ap_hook_handler(answer, NULL, NULL, APR_HOOK_MIDDLE);
}

AP_DECLARE_MODULE(floor) = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks
};
