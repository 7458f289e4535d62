/* SPDX-License-Identifier: Apache-2.0 */
/* http.h: GET and HEAD through the system's libcurl, which is opened when it is first needed: a
 * machine without it can do everything else.
 *
 * A handle is one connection at a time, for one thread. Proxies and certificates are those that
 * libcurl finds (http_proxy, the system's store). A token goes to the host of the first URL and to
 * no other that a redirection names, and never into a message. Redirections leave https for
 * nothing else. */
#ifndef LB_IO_HTTP_H
#define LB_IO_HTTP_H

#include "base/base.h"
#include "base/mem.h"

typedef struct lb_http lb_http;

typedef struct lb_http_request {
    const char *url;
    const char *token; /* bearer; NULL: none */
    bool head;         /* headers only; a redirection to another host is not followed */
    u64 from_bytes;    /* where a download goes on */
    /* Of a body with status 200 or 206, piece by piece; its error ends the transfer. */
    lb_status (*sink)(void *ctx, const void *bytes, size_t len, lb_err *err);
    void *ctx;
    /* Asked several times a second: true ends the transfer with LB_E_INTERRUPTED. May be NULL. */
    bool (*stop)(void *stop_ctx);
    void *stop_ctx;
} lb_http_request;

#define LB_HTTP_FIELD 512
typedef struct lb_http_reply {
    u32 status;              /* 0: no answer came */
    bool transient;          /* another try may succeed */
    u64 wait_s;              /* before it: Retry-After, or what RateLimit says; 0: not said */
    u64 first_byte;          /* of a 206: where its body begins in the file */
    u64 size_bytes;          /* X-Linked-Size, else of the body; UINT64_MAX: not said */
    char etag[128];          /* X-Linked-Etag, else ETag, without W/ and quotes */
    char commit[128];        /* X-Repo-Commit */
    char why[LB_HTTP_FIELD]; /* X-Error-Code or X-Error-Message; else empty */
    char next[2048];         /* Link with rel="next": the next page, or no URL; else empty */
} lb_http_reply;

/* LB_E_UNSUPPORTED: there is no libcurl here; says what to install. Thread-safe after the first
 * call has returned. */
lb_status lb_http_open(lb_http **out, lb_err *err);
void lb_http_close(lb_http **h);
/* LB_OK whatever the status is; LB_E_IO: no answer, or it broke off; else the sink's error, or
 * LB_E_INTERRUPTED. */
lb_status lb_http_do(lb_http *h, const lb_http_request *rq, lb_http_reply *reply, lb_err *err);

/* host:port of a URL, for messages: without a user's name and password. */
lb_str lb_http_host(lb_str url);

/* A path or query part with all but unreserved characters and '/' as %XX. */
void lb_http_escape(lb_buf *out, lb_str s);

#endif
