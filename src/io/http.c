/* SPDX-License-Identifier: Apache-2.0 */
/* http.c: numbers of options and results are those of curl/curl.h, which libcurl never changes. */
#include "io/http.h"
#include "base/interrupt.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define HOPS_MAX 8
#define URL_MAX 8192
#define CURL_OK 0
#define CURL_GLOBAL_DEFAULT 3

enum {
    OPT_LOW_SPEED_LIMIT = 19,
    OPT_LOW_SPEED_TIME = 20,
    OPT_NOPROGRESS = 43,
    OPT_NOBODY = 44,
    OPT_CONNECTTIMEOUT = 78,
    OPT_NOSIGNAL = 99,
    OPT_WRITEDATA = 10001,
    OPT_URL = 10002,
    OPT_RANGE = 10007,
    OPT_ERRORBUFFER = 10010,
    OPT_USERAGENT = 10018,
    OPT_HTTPHEADER = 10023,
    OPT_HEADERDATA = 10029,
    OPT_WRITEFUNCTION = 20011,
    OPT_HEADERFUNCTION = 20079,
    OPT_XFERINFODATA = 10057,
    OPT_XFERINFOFUNCTION = 20219,
    OPT_HEADEROPT = 229,
    HEADER_SEPARATE = 1,
    INFO_RESPONSE_CODE = 0x200002,
    CODE_COULDNT_RESOLVE = 6,
    CODE_COULDNT_CONNECT = 7,
    CODE_PARTIAL_FILE = 18,
    CODE_TIMEDOUT = 28,
    CODE_SEND = 55,
    CODE_RECV = 56,
    CODE_GOT_NOTHING = 52,
    CODE_HTTP2 = 16,
    CODE_HTTP2_STREAM = 92
};

typedef void curl_easy;
typedef void curl_list;
typedef size_t(curl_data_fn)(char *data, size_t size, size_t n, void *ctx);
typedef int(curl_progress_fn)(void *ctx, i64 down_total, i64 down, i64 up_total, i64 up);

/* What is called of the library. */
static struct {
    int (*global_init)(long flags);
    curl_easy *(*easy_init)(void);
    void (*easy_reset)(curl_easy *e);
    int (*setopt)(curl_easy *e, int option, ...);
    int (*perform)(curl_easy *e);
    int (*getinfo)(curl_easy *e, int info, ...);
    void (*cleanup)(curl_easy *e);
    const char *(*strerror)(int code);
    curl_list *(*list_append)(curl_list *l, const char *text);
    void (*list_free)(curl_list *l);
} curl;

struct lb_http {
    curl_easy *easy;
    /* of the transfer under way */
    const lb_http_request *rq;
    lb_http_reply *reply;
    lb_status st;
    lb_err *err;
    bool linked_etag, linked_size;
    char location[URL_MAX];
    char message[256]; /* CURL_ERROR_SIZE */
};

static bool find_all(void *lib) {
    static const struct {
        const char *name;
        void *slot;
    } names[] = {
        {"curl_global_init", &curl.global_init},  {"curl_easy_init", &curl.easy_init},
        {"curl_easy_reset", &curl.easy_reset},    {"curl_easy_setopt", &curl.setopt},
        {"curl_easy_perform", &curl.perform},     {"curl_easy_getinfo", &curl.getinfo},
        {"curl_easy_cleanup", &curl.cleanup},     {"curl_easy_strerror", &curl.strerror},
        {"curl_slist_append", &curl.list_append}, {"curl_slist_free_all", &curl.list_free},
    };
    for (size_t i = 0; i < LB_LEN(names); i++) {
        void *p = dlsym(lib, names[i].name);
        if (!p)
            return false;
        memcpy(names[i].slot, &p, sizeof p); /* POSIX: a function's address fits a void pointer */
    }
    return true;
}

static bool load(void) {
    static const char *const names[] = {"libcurl.so.4", "libcurl-gnutls.so.4", "libcurl.4.dylib",
                                        "/usr/lib/libcurl.4.dylib", "libcurl.so"};
    static bool tried, there;
    if (tried)
        return there;
    tried = true;
    for (size_t i = 0; i < LB_LEN(names) && !there; i++) {
        void *lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        there = lib && find_all(lib) && curl.global_init(CURL_GLOBAL_DEFAULT) == CURL_OK;
    }
    return there;
}

lb_status lb_http_open(lb_http **out, lb_err *err) {
    *out = NULL;
    if (!load())
        return lb_fail(
            err, LB_E_UNSUPPORTED,
            "downloads need the library libcurl, which is not on this machine: install "
            "the package libcurl4 (Debian, Ubuntu), libcurl (Fedora) or curl (Homebrew)");
    lb_http *h = lb_alloc(sizeof *h);
    if (h)
        *h = (lb_http){.easy = curl.easy_init()};
    if (!h || !h->easy) {
        lb_free(h);
        return lb_fail(err, LB_E_NOMEM, "out of memory for a connection");
    }
    *out = h;
    return LB_OK;
}

void lb_http_close(lb_http **h) {
    if (!*h)
        return;
    curl.cleanup((*h)->easy);
    lb_free(*h);
    *h = NULL;
}

/* ---- headers ---- */

static bool field(lb_str line, const char *name, lb_str *value) {
    size_t n = strlen(name);
    if (line.len <= n || line.ptr[n] != ':' || strncasecmp(line.ptr, name, n) != 0)
        return false;
    lb_str v = lb_str_sub(line, n + 1, line.len);
    while (v.len && (u8)v.ptr[0] <= ' ')
        v = lb_str_sub(v, 1, v.len);
    while (v.len && (u8)v.ptr[v.len - 1] <= ' ')
        v.len--;
    *value = v;
    return true;
}

/* What is too long or holds control characters stays empty. */
static void keep(char *out, size_t cap, lb_str v) {
    out[0] = 0;
    if (v.len >= cap)
        return;
    for (size_t i = 0; i < v.len; i++)
        if ((u8)v.ptr[i] < ' ' || v.ptr[i] == 0x7f)
            return;
    memcpy(out, v.ptr, v.len);
    out[v.len] = 0;
}

static void keep_etag(char *out, size_t cap, lb_str v) {
    if (lb_str_starts(v, LB_STR("W/")))
        v = lb_str_sub(v, 2, v.len);
    if (v.len >= 2 && v.ptr[0] == '"' && v.ptr[v.len - 1] == '"')
        v = lb_str_sub(v, 1, v.len - 1);
    keep(out, cap, v);
}

static void content_range(lb_http_reply *r, lb_str v) { /* bytes 5-9/10 */
    size_t dash;
    if (!lb_str_starts(v, LB_STR("bytes ")))
        return;
    v = lb_str_sub(v, 6, v.len);
    if (lb_str_find(v, LB_STR("-"), &dash))
        (void)lb_str_to_u64(lb_str_sub(v, 0, dash), &r->first_byte);
}

/* "api";r=0;t=55: nothing is left for 55 seconds. */
static void rate_limit(lb_http_reply *r, lb_str v) {
    size_t left, at;
    u64 n;
    if (!lb_str_find(v, LB_STR(";r="), &left) || !lb_str_find(v, LB_STR(";t="), &at))
        return;
    lb_str t = lb_str_sub(v, at + 3, v.len);
    while (t.len && (t.ptr[t.len - 1] < '0' || t.ptr[t.len - 1] > '9'))
        t.len--;
    bool none = v.ptr[left + 3] == '0' && (v.len == left + 4 || v.ptr[left + 4] == ';');
    if (none && lb_str_to_u64(t, &n))
        r->wait_s = LB_MAX(r->wait_s, n);
}

/* <https://...>; rel="prev", <https://...>; rel="next": the one right before it. What cannot be
 * kept must not look like the last page. */
static void next_page(lb_http_reply *r, lb_str v) {
    size_t rel, from, end;
    if (!lb_str_find(v, LB_STR("rel=\"next\""), &rel))
        return;
    for (end = rel; end > 0 && v.ptr[end] != '>';)
        end--;
    for (from = end; from > 0 && v.ptr[from] != '<';)
        from--;
    if (v.ptr[from] == '<')
        keep(r->next, sizeof r->next, lb_str_sub(v, from + 1, end));
    if (!r->next[0])
        (void)snprintf(r->next, sizeof r->next, "a link that cannot be read");
}

static size_t on_header(char *data, size_t size, size_t n, void *ctx) {
    lb_http *h = ctx;
    lb_http_reply *r = h->reply;
    lb_str line = {data, size * n}, v;
    u64 bytes;
    if (lb_str_starts(line, LB_STR("HTTP/"))) { /* an answer to an earlier step is over */
        *r = (lb_http_reply){.size_bytes = UINT64_MAX};
        h->location[0] = 0;
        h->linked_etag = h->linked_size = false;
    } else if (field(line, "X-Linked-Etag", &v)) {
        keep_etag(r->etag, sizeof r->etag, v);
        h->linked_etag = true;
    } else if (field(line, "ETag", &v) && !h->linked_etag) {
        keep_etag(r->etag, sizeof r->etag, v);
    } else if (field(line, "X-Linked-Size", &v) && lb_str_to_u64(v, &bytes)) {
        r->size_bytes = bytes;
        h->linked_size = true;
    } else if (field(line, "Content-Length", &v) && !h->linked_size && lb_str_to_u64(v, &bytes)) {
        r->size_bytes = bytes;
    } else if (field(line, "X-Repo-Commit", &v)) {
        keep(r->commit, sizeof r->commit, v);
    } else if (field(line, "X-Error-Message", &v) ||
               (field(line, "X-Error-Code", &v) && !r->why[0])) {
        keep(r->why, sizeof r->why, v);
    } else if (field(line, "Location", &v)) {
        keep(h->location, sizeof h->location, v);
    } else if (field(line, "Link", &v)) {
        next_page(r, v);
    } else if (field(line, "Content-Range", &v)) {
        content_range(r, v);
    } else if (field(line, "Retry-After", &v) && lb_str_to_u64(v, &bytes)) { /* dates: not known */
        r->wait_s = LB_MAX(r->wait_s, bytes);
    } else if (field(line, "RateLimit", &v)) {
        rate_limit(r, v);
    }
    return size * n;
}

static bool stopped(const lb_http *h) {
    return h->rq->stop && h->rq->stop(h->rq->stop_ctx);
}

static size_t on_body(char *data, size_t size, size_t n, void *ctx) {
    lb_http *h = ctx;
    long status = 0;
    curl.getinfo(h->easy, INFO_RESPONSE_CODE, &status);
    if (h->st == LB_OK)
        h->st = lb_interrupt_check(h->err);
    if (h->st == LB_OK && stopped(h))
        h->st = lb_fail(h->err, LB_E_INTERRUPTED, "stopped");
    h->reply->status = (u32)status;
    if (h->st == LB_OK && (status == 200 || status == 206) && h->rq->sink)
        h->st = h->rq->sink(h->rq->ctx, data, size * n, h->err);
    return h->st == LB_OK ? size * n : 0;
}

static int on_progress(void *ctx, i64 a, i64 b, i64 c, i64 d) {
    (void)a, (void)b, (void)c, (void)d;
    return lb_interrupted() || stopped(ctx);
}

/* ---- URLs ---- */

/* scheme://host:port of a URL. */
static lb_str origin(const char *url) {
    const char *p = strstr(url, "://");
    p = p ? p + 3 : url;
    while (*p && *p != '/' && *p != '?' && *p != '#')
        p++;
    return (lb_str){url, (size_t)(p - url)};
}

lb_str lb_http_host(lb_str url) {
    size_t at;
    if (lb_str_find(url, LB_STR("://"), &at))
        url = lb_str_sub(url, at + 3, url.len);
    for (size_t i = 0; i < url.len; i++)
        if (strchr("/?#", url.ptr[i]))
            url.len = i;
    while (lb_str_find(url, LB_STR("@"), &at))
        url = lb_str_sub(url, at + 1, url.len);
    return url;
}

static bool same_origin(const char *a, const char *b) {
    lb_str x = origin(a), y = origin(b);
    return x.len == y.len && strncasecmp(x.ptr, y.ptr, x.len) == 0;
}

static bool is_http(const char *url, bool secure_only) {
    return strncasecmp(url, "https://", 8) == 0 ||
           (!secure_only && strncasecmp(url, "http://", 7) == 0);
}

/* The URL that a redirection leads to; false: one that is not followed. */
static bool next_url(char url[URL_MAX], const char *location) {
    char out[URL_MAX];
    int n;
    bool secure = strncasecmp(url, "https://", 8) == 0;
    lb_str o = origin(url);
    if (location[0] == '/' && location[1] == '/')
        n = snprintf(out, sizeof out, "%s:%s", secure ? "https" : "http", location);
    else if (location[0] == '/')
        n = snprintf(out, sizeof out, "%.*s%s", LB_FMT(o), location);
    else
        n = snprintf(out, sizeof out, "%s", location);
    if (n <= 0 || n >= (int)sizeof out || !is_http(out, secure))
        return false;
    memcpy(url, out, (size_t)n + 1);
    return true;
}

void lb_http_escape(lb_buf *out, lb_str s) {
    for (size_t i = 0; i < s.len; i++) {
        u8 c = (u8)s.ptr[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '_' || c == '.' || c == '~' || c == '/';
        if (plain)
            lb_buf_put_u8(out, c);
        else
            lb_buf_printf(out, "%%%02X", c);
    }
}

/* ---- a transfer ---- */

static bool may_pass(int code) {
    static const int codes[] = {CODE_COULDNT_RESOLVE,
                                CODE_COULDNT_CONNECT,
                                CODE_PARTIAL_FILE,
                                CODE_TIMEDOUT,
                                CODE_SEND,
                                CODE_RECV,
                                CODE_GOT_NOTHING,
                                CODE_HTTP2,
                                CODE_HTTP2_STREAM};
    for (size_t i = 0; i < LB_LEN(codes); i++)
        if (codes[i] == code)
            return true;
    return false;
}

static lb_status one_step(lb_http *h, const char *url, const char *token, lb_err *err) {
    const lb_http_request *rq = h->rq;
    curl_list *headers = NULL;
    char range[32];
    curl.easy_reset(h->easy);
    h->message[0] = 0;
    if (token) {
        char line[1024];
        int n = snprintf(line, sizeof line, "Authorization: Bearer %s", token);
        if (n >= (int)sizeof line || strpbrk(token, "\r\n"))
            return lb_fail(err, LB_E_USAGE, "HF_TOKEN is not a token");
        headers = curl.list_append(NULL, line);
        if (!headers)
            return lb_fail(err, LB_E_NOMEM, "out of memory for a request");
    }
    curl.setopt(h->easy, OPT_URL, url);
    curl.setopt(h->easy, OPT_USERAGENT, "lbrx/" LB_VERSION);
    curl.setopt(h->easy, OPT_ERRORBUFFER, h->message);
    curl.setopt(h->easy, OPT_NOSIGNAL, 1L);
    curl.setopt(h->easy, OPT_CONNECTTIMEOUT, 30L);
    curl.setopt(h->easy, OPT_LOW_SPEED_LIMIT, 1L);
    curl.setopt(h->easy, OPT_LOW_SPEED_TIME, 60L);
    curl.setopt(h->easy, OPT_HEADERFUNCTION, (curl_data_fn *)on_header);
    curl.setopt(h->easy, OPT_HEADERDATA, (void *)h);
    curl.setopt(h->easy, OPT_WRITEFUNCTION, (curl_data_fn *)on_body);
    curl.setopt(h->easy, OPT_WRITEDATA, (void *)h);
    curl.setopt(h->easy, OPT_NOPROGRESS, 0L);
    curl.setopt(h->easy, OPT_XFERINFOFUNCTION, (curl_progress_fn *)on_progress);
    curl.setopt(h->easy, OPT_XFERINFODATA, (void *)h);
    if (headers) {
        curl.setopt(h->easy, OPT_HTTPHEADER, headers);
        curl.setopt(h->easy, OPT_HEADEROPT, (long)HEADER_SEPARATE); /* not to a proxy: its default
                                                                      since 7.42.1 */
    }
    if (rq->head)
        curl.setopt(h->easy, OPT_NOBODY, 1L);
    if (rq->from_bytes) { /* copied by setopt; an answer without the range is the caller's to see */
        snprintf(range, sizeof range, "%llu-", (unsigned long long)rq->from_bytes);
        curl.setopt(h->easy, OPT_RANGE, range);
    }
    int code = curl.perform(h->easy);
    long status = 0;
    curl.getinfo(h->easy, INFO_RESPONSE_CODE, &status);
    h->reply->status = (u32)status;
    if (headers)
        curl.list_free(headers);
    if (h->st != LB_OK)
        return h->st;
    LB_TRY(lb_interrupt_check(err));
    if (code == CURL_OK)
        return LB_OK;
    if (stopped(h))
        return lb_fail(err, LB_E_INTERRUPTED, "stopped");
    h->reply->transient = may_pass(code);
    lb_str host = lb_http_host(lb_str_c(url));
    return lb_fail(err, LB_E_IO, "%.*s: %s", LB_FMT(host),
                   h->message[0] ? h->message : curl.strerror(code));
}

lb_status lb_http_do(lb_http *h, const lb_http_request *rq, lb_http_reply *reply, lb_err *err) {
    char url[URL_MAX];
    *reply = (lb_http_reply){.size_bytes = UINT64_MAX};
    h->rq = rq;
    h->reply = reply;
    h->err = err;
    h->st = LB_OK;
    if (snprintf(url, sizeof url, "%s", rq->url) >= (int)sizeof url || !is_http(url, false))
        return lb_fail(err, LB_E_USAGE, "'%.200s' is not a URL of http or https", rq->url);
    for (int hop = 0; hop <= HOPS_MAX; hop++) {
        const char *token = rq->token && same_origin(url, rq->url) ? rq->token : NULL;
        LB_TRY(one_step(h, url, token, err));
        if (reply->status < 300 || reply->status >= 400 || !h->location[0]) {
            reply->transient = reply->status >= 500 || reply->status == 429 || reply->status == 408;
            return LB_OK;
        }
        char before[URL_MAX];
        memcpy(before, url, sizeof url);
        if (!next_url(url, h->location)) { /* what stands behind a '?' may be a key */
            int shown = (int)LB_MIN(strcspn(h->location, "?"), (size_t)200);
            return lb_fail(err, LB_E_FORMAT, "%.*s: redirects to '%.*s', which is not followed",
                           LB_FMT(lb_http_host(lb_str_c(before))), shown, h->location);
        }
        if (rq->head && !same_origin(url, before)) {
            if (!h->linked_size) /* of the redirection, not of the file */
                reply->size_bytes = UINT64_MAX;
            return LB_OK; /* the first host has said all that it knows of the file */
        }
    }
    return lb_fail(err, LB_E_IO, "%.*s: redirects in a circle",
                   LB_FMT(lb_http_host(lb_str_c(rq->url))));
}
