/* SPDX-License-Identifier: Apache-2.0 */
/* pull.c: the list of files from the hub, then each of them: see pull.h. */
#include "ops/pull.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "base/os.h"
#include "base/thread.h"
#include "io/http.h"
#include "io/json.h"
#include <fnmatch.h>
#include <stdio.h>

#define ENDPOINT "https://huggingface.co"
#define LIST_MAX (64 * LB_MIB)
#define TRIES 5
#define PAGES_MAX 10000
#define FILES_MAX 1000000
#define COMMIT_MAX 64
#define REVISION_MAX 200
#define FIRST_WAIT_US 500000
#define WAIT_MAX_S 600 /* the hub's windows are of five minutes */
#define PIECE (256 * LB_KIB)
#define PROGRESS_BYTES (64 * LB_KIB)
/* What comes is written in pieces that begin and end at multiples of this: the system's cache keeps
 * them in pages as large, from which a model is read faster (plan/lay.c). */
#define GATHERED (128 * LB_KIB)

typedef struct pull {
    const lb_pull_opts *o;
    lb_hub_name name;
    lb_str endpoint;
    const char *token;
    lb_pull_result *r;
    lb_mutex lock; /* all below, and the arena while files are fetched */
    lb_arena *arena;
    u64 cap_files;
    u64 next; /* file that nobody has taken */
    u64 done_bytes;
    lb_status st;
    lb_err err;
} pull;

/* ---- the list ---- */

/* A path inside the model: no part leads out of it or hides what it is. */
static bool is_inside(lb_str path) {
    size_t at = 0;
    if (path.len == 0 || path.len > 1024)
        return false;
    for (size_t i = 0; i <= path.len; i++) {
        if (i < path.len && ((u8)path.ptr[i] < ' ' || path.ptr[i] == '\\' || path.ptr[i] == 0x7f))
            return false;
        if (i < path.len && path.ptr[i] != '/')
            continue;
        lb_str part = lb_str_sub(path, at, i);
        if (part.len == 0 || part.len > 250 || lb_str_eq_c(part, ".") || lb_str_eq_c(part, ".."))
            return false;
        at = i + 1;
    }
    return true;
}

static bool is_etag(lb_str s) {
    return lb_hub_is_plain(s) && s.len <= 120;
}

/* An entry of `siblings` (rfilename, blobId, lfs.sha256) or of a tree (path, oid, lfs.oid). */
static lb_status read_entry(pull *p, const lb_json *v, lb_pull_file *f, lb_err *err) {
    lb_str path = {0}, etag = {0};
    const lb_json *lfs = lb_json_get(v, "lfs");
    if (!lb_json_as_str(lb_json_get(v, "rfilename"), &path))
        (void)lb_json_as_str(lb_json_get(v, "path"), &path);
    if (!is_inside(path))
        return lb_fail(err, LB_E_FORMAT, "%.*s: the hub lists a file '%.*s': not a plain path",
                       LB_FMT(p->name.id), LB_FMT(path));
    *f = (lb_pull_file){.path = lb_arena_str(p->arena, path), .size_bytes = UINT64_MAX};
    if (!lb_json_as_str(lb_json_get(lfs, "sha256"), &etag) &&
        !lb_json_as_str(lb_json_get(lfs, "oid"), &etag) &&
        !lb_json_as_str(lb_json_get(v, "blobId"), &etag))
        (void)lb_json_as_str(lb_json_get(v, "oid"), &etag);
    if (!lb_json_as_u64(lb_json_get(lfs, "size"), &f->size_bytes))
        (void)lb_json_as_u64(lb_json_get(v, "size"), &f->size_bytes);
    if (is_etag(etag))
        f->etag = lb_arena_str(p->arena, etag);
    return f->path.ptr ? LB_OK : lb_fail(err, LB_E_NOMEM, "out of memory for the list of files");
}

/* Adds the files of a list. */
static lb_status read_entries(pull *p, const lb_json *list, lb_err *err) {
    u64 n = p->r->n_files;
    if (list->n > FILES_MAX - n)
        return lb_fail(err, LB_E_LIMIT, "%.*s: the hub lists more than %d files",
                       LB_FMT(p->name.id), FILES_MAX);
    if (n + list->n > p->cap_files) {
        u64 cap = LB_MAX(n + list->n, 2 * p->cap_files);
        lb_pull_file *files = lb_arena_new(p->arena, lb_pull_file, cap);
        if (!files)
            return lb_fail(err, LB_E_NOMEM, "out of memory for the list of files");
        if (n)
            memcpy(files, p->r->files, n * sizeof *files);
        p->r->files = files;
        p->cap_files = cap;
    }
    for (const lb_json *s = list->first; s; s = s->next) {
        lb_str type;
        if (lb_json_as_str(lb_json_get(s, "type"), &type) && !lb_str_eq_c(type, "file"))
            continue; /* a tree's folders */
        LB_TRY(read_entry(p, s, &p->r->files[p->r->n_files], err));
        p->r->n_files++;
    }
    return LB_OK;
}

static lb_status to_buf(void *ctx, const void *bytes, size_t len, lb_err *err) {
    lb_buf *b = ctx;
    if (b->len + len > LIST_MAX)
        return lb_fail(err, LB_E_FORMAT, "the hub's list of files is too long");
    lb_buf_put(b, bytes, len);
    return lb_buf_status(b, err);
}

/* What a status other than 200 means. */
static lb_status refused(const pull *p, const char *what, const lb_http_reply *r, lb_err *err) {
    const char *why = r->why[0] ? r->why : "no reason given";
    if (r->wait_s > WAIT_MAX_S)
        return lb_fail(err, LB_E_IO,
                       "%.*s: %s: %.*s answers with status %u and asks to come back in %llu s",
                       LB_FMT(p->name.id), what, LB_FMT(lb_http_host(p->endpoint)), r->status,
                       (unsigned long long)r->wait_s);
    if (r->status == 401 || r->status == 403)
        return lb_fail(
            err, LB_E_NOT_FOUND,
            "%.*s: %s: the hub refuses it (%u: %s): it does not exist, or it needs a token "
            "that may read it in HF_TOKEN or from `hf auth login`%s",
            LB_FMT(p->name.id), what, r->status, why, p->token ? " (the present one may not)" : "");
    if (r->status == 404)
        return lb_fail(err, LB_E_NOT_FOUND, "%.*s: %s: there is none on %.*s (%s)",
                       LB_FMT(p->name.id), what, LB_FMT(lb_http_host(p->endpoint)), why);
    return lb_fail(err, LB_E_IO, "%.*s: %s: %.*s answers with status %u (%s)", LB_FMT(p->name.id),
                   what, LB_FMT(lb_http_host(p->endpoint)), r->status, why);
}

/* Another connection has failed: nothing more is to be fetched. */
static bool is_over(void *ctx) {
    pull *p = ctx;
    lb_lock(&p->lock);
    bool over = p->st != LB_OK;
    lb_unlock(&p->lock);
    return over;
}

static lb_status check_over(pull *p, lb_err *err) {
    LB_TRY(lb_interrupt_check(err));
    return is_over(p) ? lb_fail(err, LB_E_INTERRUPTED, "stopped") : LB_OK;
}

static lb_status pause_us(pull *p, u64 us, lb_err *err) {
    lb_mutex m;
    lb_cond c;
    lb_status st = LB_OK;
    lb_mutex_init(&m);
    lb_cond_init(&c);
    lb_lock(&m);
    for (u64 end = lb_os_now_us() + us; st == LB_OK && lb_os_now_us() < end;) {
        (void)lb_wait_us(&c, &m, 100000);
        st = check_over(p, err);
    }
    lb_unlock(&m);
    lb_cond_deinit(&c);
    lb_mutex_deinit(&m);
    return st;
}

static void LB_PRINTF(2, 3) say(const pull *p, const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (p->o->note)
        p->o->note(p->o->user, text);
}

/* Tries that may be worth it: TRIES in vain, each after twice the time, or after what the hub asks
 * to wait. */
typedef struct retry {
    u32 tries;
    u64 wait_us;
} retry;

/* Whether another one is made, after the pause; *st tells of an interruption. */
static bool try_again(pull *p, retry *r, const lb_http_reply *reply, lb_status *st, lb_err *err) {
    if (!reply->transient || ++r->tries >= TRIES || reply->wait_s > WAIT_MAX_S)
        return false;
    u64 us = LB_MAX(r->wait_us, FIRST_WAIT_US);
    r->wait_us = 2 * us;
    if (reply->wait_s)
        say(p, "%.*s asks to wait %llu s (status %u)", LB_FMT(lb_http_host(p->endpoint)),
            (unsigned long long)reply->wait_s, reply->status);
    lb_status paused = pause_us(p, LB_MAX(us, reply->wait_s * 1000000), err);
    if (paused != LB_OK)
        *st = paused;
    return paused == LB_OK;
}

/* The JSON under a URL (NUL-terminated in url), in scratch. */
static lb_status get_json(pull *p, lb_http *h, const lb_buf *url, lb_http_reply *reply,
                          lb_arena *scratch, lb_json **out, lb_err *err) {
    lb_buf body = {0};
    retry again = {0};
    lb_status st = lb_buf_status(url, err);
    if (st != LB_OK)
        return st;
    do {
        lb_buf_reset(&body);
        st = lb_http_do(
            h,
            &(lb_http_request){
                .url = (const char *)url->ptr, .token = p->token, .sink = to_buf, .ctx = &body},
            reply, err);
    } while (reply->status && try_again(p, &again, reply, &st, err)); /* 0: there is no hub */
    if (st == LB_OK && reply->status != 200)
        st = refused(p, "the model or its revision", reply, err);
    lb_str text = st == LB_OK ? lb_arena_str(scratch, lb_buf_str(&body)) : LB_STR_NONE;
    lb_buf_deinit(&body);
    if (st == LB_OK && !text.ptr)
        st = lb_fail(err, LB_E_NOMEM, "out of memory for the list of files");
    return st == LB_OK ? lb_json_parse(text, "the hub's list of files", scratch, out, err) : st;
}

static void begin_url(const pull *p, const char *what, lb_str revision, const char *query,
                      lb_buf *url) {
    lb_buf_reset(url);
    lb_buf_printf(url, "%.*s/api/models/", LB_FMT(p->endpoint));
    lb_http_escape(url, p->name.id);
    lb_buf_printf(url, "/%s/", what);
    for (size_t i = 0; i < revision.len; i++) /* one part of the path */
        if (revision.ptr[i] == '/')
            lb_buf_put_c(url, "%2F");
        else
            lb_http_escape(url, lb_str_sub(revision, i, i + 1));
    lb_buf_put_c(url, query);
    lb_buf_put_u8(url, 0);
}

/* The token goes there: not to ENDPOINT.elsewhere, nor to ENDPOINT@elsewhere. */
static bool is_of_endpoint(const pull *p, lb_str url) {
    return lb_str_starts(url, p->endpoint) && url.len > p->endpoint.len &&
           url.ptr[p->endpoint.len] == '/';
}

/* Page after page of the commit's tree. A page may not lead to another host. */
static lb_status list_tree(pull *p, lb_http *h, lb_buf *url, lb_err *err) {
    begin_url(p, "tree", p->r->commit, "?recursive=true&expand=false", url);
    for (u32 page = 0; page < PAGES_MAX; page++) {
        lb_arena scratch = {.max_bytes = 8 * (u64)LIST_MAX};
        lb_http_reply reply;
        lb_json *v = NULL;
        lb_status st = get_json(p, h, url, &reply, &scratch, &v, err);
        if (st == LB_OK && v->type != LB_JARRAY)
            st = lb_fail(err, LB_E_FORMAT, "%.*s: the answer of %.*s is no list of files",
                         LB_FMT(p->name.id), LB_FMT(p->endpoint));
        if (st == LB_OK)
            st = read_entries(p, v, err);
        lb_arena_deinit(&scratch);
        LB_TRY(st);
        if (!reply.next[0])
            return LB_OK;
        if (!is_of_endpoint(p, lb_str_c(reply.next)))
            return lb_fail(err, LB_E_FORMAT, "%.*s: its list goes on elsewhere: '%.200s'",
                           LB_FMT(p->name.id), reply.next);
        lb_buf_reset(url);
        lb_buf_put_c(url, reply.next);
        lb_buf_put_u8(url, 0);
    }
    return lb_fail(err, LB_E_FORMAT, "%.*s: its list of files has no end", LB_FMT(p->name.id));
}

static lb_status list_files(pull *p, lb_http *h, lb_err *err) {
    lb_arena scratch = {.max_bytes = 8 * (u64)LIST_MAX};
    lb_http_reply reply;
    lb_buf url = {0};
    lb_json *v = NULL;
    lb_str sha = {0};
    begin_url(p, "revision", p->r->revision, "?blobs=true", &url);
    lb_status st = get_json(p, h, &url, &reply, &scratch, &v, err);
    if (st == LB_OK && (!lb_json_as_str(lb_json_get(v, "sha"), &sha) || !lb_hub_is_plain(sha) ||
                        sha.len > COMMIT_MAX))
        st = lb_fail(err, LB_E_FORMAT, "%.*s: the answer of %.*s names no commit",
                     LB_FMT(p->name.id), LB_FMT(p->endpoint));
    if (st == LB_OK) {
        const lb_json *list = lb_json_get(v, "siblings");
        p->r->commit = lb_arena_str(p->arena, sha);
        if (!p->r->commit.ptr)
            st = lb_fail(err, LB_E_NOMEM, "out of memory for the list of files");
        else if (list && list->type == LB_JARRAY)
            st = read_entries(p, list, err);
        else
            st = list_tree(p, h, &url, err);
    }
    lb_buf_deinit(&url);
    lb_arena_deinit(&scratch);
    return st;
}

/* ---- which of them ---- */

static bool matches(lb_str path, const char *const *patterns, u32 n) {
    for (u32 i = 0; i < n; i++)
        if (fnmatch(patterns[i], path.ptr, 0) == 0)
            return true;
    return false;
}

/* Weights in another form than safetensors, and second copies. */
static bool is_second_form(lb_str path) {
    static const char *const forms[] = {
        "*.bin",       "*.pt",       "*.pth",      "*.ckpt",
        "*.h5",        "*.msgpack",  "*.ot",       "*.onnx",
        "*.onnx_data", "*.tflite",   "*.mlmodel",  "onnx/*",
        "coreml/*",    "openvino/*", "original/*", "consolidated*.safetensors"};
    return matches(path, forms, LB_LEN(forms));
}

static void choose(pull *p) {
    const lb_pull_opts *o = p->o;
    bool has_weights = false;
    for (u64 i = 0; i < p->r->n_files; i++)
        has_weights = has_weights ||
                      fnmatch("model*.safetensors", p->r->files[i].path.ptr, FNM_PATHNAME) == 0;
    for (u64 i = 0; i < p->r->n_files; i++) {
        lb_pull_file *f = &p->r->files[i];
        if (p->name.file.len)
            f->skipped = !lb_str_eq(f->path, p->name.file);
        else if (o->n_include)
            f->skipped = !matches(f->path, o->include, o->n_include);
        else
            f->skipped = !o->all && has_weights && is_second_form(f->path);
        f->skipped = f->skipped || matches(f->path, o->exclude, o->n_exclude);
        p->r->n_skipped += f->skipped;
    }
}

/* ---- where they lie ---- */

static const char *path_of(pull *p, const char *fmt, lb_str a) {
    char part[1400]; /* paths have up to 1024 bytes */
    int n = snprintf(part, sizeof part, fmt, LB_FMT(a));
    LB_ASSERT(n >= 0 && n < (int)sizeof part);
    lb_lock(&p->lock);
    const char *s = lb_os_join(p->arena, p->name.repo, lb_str_c(part));
    lb_unlock(&p->lock);
    return s;
}

/* The folders above a path, from `from` bytes on. */
static lb_status make_folders(const char *path, size_t from, lb_err *err) {
    char part[4096];
    size_t n = strlen(path);
    if (n >= sizeof part)
        return lb_fail(err, LB_E_IO, "%s: the path is too long", path);
    for (size_t i = from; i < n; i++)
        if (path[i] == '/' && i > 0) {
            memcpy(part, path, i);
            part[i] = 0;
            LB_TRY(lb_os_mkdir(part, true, err));
        }
    return LB_OK;
}

static bool has_size(const char *path, u64 size_bytes) {
    lb_fstat st;
    return path && lb_os_exists(path) && lb_os_stat(path, &st, NULL) == LB_OK && st.is_file &&
           (size_bytes == UINT64_MAX || st.size_bytes == size_bytes);
}

static const char *link_of(pull *p, const lb_pull_file *f) {
    char part[1400];
    snprintf(part, sizeof part, "snapshots/%.*s/%.*s", LB_FMT(p->r->commit), LB_FMT(f->path));
    return path_of(p, "%.*s", lb_str_c(part));
}

/* snapshots/COMMIT/a/b.json -> ../../../blobs/ETAG. */
static lb_status link_file(pull *p, const lb_pull_file *f, lb_err *err) {
    char target[2048]; /* a path of 1024 bytes has up to 511 folders */
    size_t n = (size_t)snprintf(target, sizeof target, "../../");
    const char *at = link_of(p, f);
    for (size_t i = 0; i < f->path.len; i++)
        if (f->path.ptr[i] == '/') {
            memcpy(target + n, "../", 4);
            n += 3;
        }
    snprintf(target + n, sizeof target - n, "blobs/%.*s", LB_FMT(f->etag));
    if (!at)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a path");
    LB_TRY(make_folders(at, strlen(p->name.cache), err));
    LB_TRY(lb_os_unlink(at, err));
    lb_status st = lb_os_symlink(target, at, err);
    return has_size(at, f->size_bytes) ? LB_OK : st; /* another process may have been faster */
}

/* ---- one file ---- */

typedef struct body {
    pull *p;
    const lb_http_reply *reply;
    const char *path;
    int fd;
    u64 at, from; /* next byte; what was asked for */
    u64 max;      /* bytes of the file; UINT64_MAX: not known */
    u8 *gathered; /* [GATHERED], the last n_gathered bytes before `at`, not yet written */
    u64 n_gathered;
    lb_sha256 sha256;
    lb_sha1 sha1;
    bool begun;
    bool is_wrong; /* its sum */
} body;

static void count(pull *p, i64 bytes, bool fetched) {
    lb_lock(&p->lock);
    p->done_bytes = (u64)((i64)p->done_bytes + bytes);
    if (fetched)
        p->r->fetched_bytes += (u64)bytes;
    u64 done = p->done_bytes, total = p->r->total_bytes;
    lb_unlock(&p->lock);
    if (p->o->progress)
        p->o->progress(p->o->user, done, total);
}

static void begin_sums(body *b, u64 size_bytes) {
    char head[40];
    int n = snprintf(head, sizeof head, "blob %llu", (unsigned long long)size_bytes);
    lb_sha256_init(&b->sha256);
    lb_sha1_init(&b->sha1);
    lb_sha1_update(&b->sha1, head, (size_t)n + 1);
}

static void add_sums(body *b, const void *bytes, size_t len, bool is_sha1) {
    if (is_sha1)
        lb_sha1_update(&b->sha1, bytes, len);
    else
        lb_sha256_update(&b->sha256, bytes, len);
}

static lb_status write_gathered(body *b, lb_err *err) {
    const u64 n = b->n_gathered;
    b->n_gathered = 0;
    return n ? lb_os_pwrite(b->fd, b->path, b->gathered, n, b->at - n, err) : LB_OK;
}

static lb_status gather(body *b, const u8 *bytes, u64 len, lb_err *err) {
    for (u64 n; len; bytes += n, len -= n) {
        n = LB_MIN(len, GATHERED - b->at % GATHERED);
        memcpy(b->gathered + b->n_gathered, bytes, n);
        b->n_gathered += n;
        b->at += n;
        if (b->at % GATHERED == 0)
            LB_TRY(write_gathered(b, err));
    }
    return LB_OK;
}

static lb_status to_file(void *ctx, const void *bytes, size_t len, lb_err *err) {
    body *b = ctx;
    if (!b->begun) {
        b->begun = true;
        if (b->reply->status == 200 && b->from) { /* it does not know ranges: from the beginning */
            count(b->p, -(i64)b->at, false);
            b->at = b->n_gathered = 0;
        } else if (b->reply->status == 206 && b->reply->first_byte != b->from) {
            return lb_fail(err, LB_E_FORMAT, "%s: the hub sends another part than was asked for",
                           b->path);
        }
    }
    if (len > b->max - LB_MIN(b->at, b->max))
        return lb_fail(err, LB_E_FORMAT, "%s: the hub sends more than the %llu bytes that it has",
                       b->path, (unsigned long long)b->max);
    LB_TRY(gather(b, bytes, len, err));
    count(b->p, (i64)len, true);
    return LB_OK;
}

lb_pull_sum lb_pull_sum_of(const lb_pull_file *f) {
    for (size_t i = 0; i < f->etag.len; i++)
        if (!strchr("0123456789abcdef", f->etag.ptr[i]))
            return LB_PULL_SIZE;
    return f->etag.len == 40 ? LB_PULL_SHA1 : f->etag.len == 64 ? LB_PULL_SHA256 : LB_PULL_SIZE;
}

/* The bytes that are there against the name that says what they must be. */
static lb_status check_sum(pull *p, const lb_pull_file *f, body *b, u64 size_bytes, lb_err *err) {
    char hex[65];
    bool is_sha1 = lb_pull_sum_of(f) == LB_PULL_SHA1;
    if (lb_pull_sum_of(f) == LB_PULL_SIZE) /* which was compared already, if it is known */
        return LB_OK;
    u8 *piece = lb_alloc(PIECE);
    lb_status st = piece ? LB_OK : lb_fail(err, LB_E_NOMEM, "out of memory for a checksum");
    begin_sums(b, size_bytes);
    for (u64 at = 0; st == LB_OK && at < size_bytes;) {
        u64 n = LB_MIN(size_bytes - at, (u64)PIECE);
        st = lb_os_pread(b->fd, b->path, piece, n, at, err);
        if (st == LB_OK)
            st = check_over(p, err);
        if (st == LB_OK)
            add_sums(b, piece, n, is_sha1);
        at += n;
    }
    lb_free(piece);
    LB_TRY(st);
    if (is_sha1)
        lb_sha1_hex(&b->sha1, hex);
    else
        lb_sha256_hex(&b->sha256, hex);
    b->is_wrong = !lb_str_eq_c(f->etag, hex);
    if (b->is_wrong)
        return lb_fail(
            err, LB_E_FORMAT,
            "%.*s/%.*s: what came has the checksum %s, the hub says %.*s: it was removed: "
            "try again",
            LB_FMT(p->name.id), LB_FMT(f->path), hex, LB_FMT(f->etag));
    return LB_OK;
}

static const char *url_of(const pull *p, const lb_pull_file *f, lb_buf *url) {
    lb_buf_reset(url);
    lb_buf_printf(url, "%.*s/", LB_FMT(p->endpoint));
    lb_http_escape(url, p->name.id);
    lb_buf_put_c(url, "/resolve/");
    lb_http_escape(url, p->r->commit);
    lb_buf_put_c(url, "/");
    lb_http_escape(url, f->path);
    lb_buf_put_u8(url, 0);
    return url->oom ? NULL : (const char *)url->ptr;
}

/* Name and size of a file that the list does not tell. */
static lb_status ask(pull *p, lb_http *h, lb_pull_file *f, const char *url, lb_err *err) {
    lb_http_reply r = {0};
    if (f->etag.len && f->size_bytes != UINT64_MAX)
        return LB_OK;
    lb_status st;
    retry again = {0};
    do
        st = lb_http_do(
            h,
            &(lb_http_request){
                .url = url, .token = p->token, .head = true, .stop = is_over, .stop_ctx = p},
            &r, err);
    while (try_again(p, &again, &r, &st, err));
    LB_TRY(st);
    if (r.status >= 400)
        return refused(p, f->path.ptr, &r, err);
    if (!is_etag(lb_str_c(r.etag)))
        return lb_fail(err, LB_E_FORMAT, "%.*s/%.*s: the hub gives no ETag", LB_FMT(p->name.id),
                       LB_FMT(f->path));
    lb_lock(&p->lock);
    if (f->size_bytes == UINT64_MAX && r.size_bytes != UINT64_MAX) {
        f->size_bytes = r.size_bytes;
        p->r->total_bytes += r.size_bytes;
    }
    if (!f->etag.len)
        f->etag = lb_arena_str(p->arena, lb_str_c(r.etag));
    lb_unlock(&p->lock);
    return f->etag.ptr ? LB_OK : lb_fail(err, LB_E_NOMEM, "out of memory for a name");
}

/* One transfer, from where the file ends. r->transient: another one may do better. */
static lb_status transfer(pull *p, lb_http *h, const lb_pull_file *f, const char *url, body *b,
                          lb_http_reply *r, lb_err *err) {
    lb_fstat at;
    *r = (lb_http_reply){0};
    LB_TRY(lb_os_fstat(b->fd, b->path, &at, err));
    if (f->size_bytes != UINT64_MAX && at.size_bytes > f->size_bytes) {
        LB_TRY(lb_os_truncate(b->fd, b->path, 0, err));
        at.size_bytes = 0;
    }
    b->at = b->from = at.size_bytes;
    b->begun = false;
    b->max = f->size_bytes;
    b->reply = r;
    if (f->size_bytes != b->at || b->at == 0) {
        count(p, (i64)b->at, false);
        lb_status st = lb_http_do(h,
                                  &(lb_http_request){.url = url,
                                                     .token = p->token,
                                                     .from_bytes = b->from,
                                                     .sink = to_file,
                                                     .ctx = b,
                                                     .stop = is_over,
                                                     .stop_ctx = p},
                                  r, err);
        /* Also of a transfer that failed: another one goes on from there. */
        const lb_status written = write_gathered(b, st == LB_OK ? err : NULL);
        st = st == LB_OK ? written : st;
        if (st != LB_OK || (r->status != 200 && r->status != 206))
            count(p, -(i64)b->at, false);
        LB_TRY(st);
        if (r->status == 416 && b->from) { /* longer than the file: begin again */
            r->transient = true;
            LB_TRY(lb_os_truncate(b->fd, b->path, 0, err));
            return lb_fail(err, LB_E_IO, "%s: nothing behind its end", b->path);
        }
        if (r->status != 200 && r->status != 206)
            return refused(p, f->path.ptr, r, err);
        LB_TRY(lb_os_truncate(b->fd, b->path, b->at, err));
    } else {
        count(p, (i64)b->at, false);
    }
    if (f->size_bytes == UINT64_MAX || b->at == f->size_bytes)
        return LB_OK;
    count(p, -(i64)b->at, false);
    r->transient = true;
    return lb_fail(err, LB_E_IO, "%.*s/%.*s: %llu bytes came, it has %llu", LB_FMT(p->name.id),
                   LB_FMT(f->path), (unsigned long long)b->at, (unsigned long long)f->size_bytes);
}

/* All of it, from where the file ends, and its sum. */
static lb_status get_whole(pull *p, lb_http *h, const lb_pull_file *f, const char *url, body *b,
                           lb_err *err) {
    lb_status st;
    lb_http_reply r;
    retry again = {0};
    u64 best = 0;
    do {
        st = transfer(p, h, f, url, b, &r, err);
        if (st == LB_OK)
            break;
        if (b->at > best + PROGRESS_BYTES) { /* a long file, a bad line: only vain tries count */
            best = b->at;
            again = (retry){.wait_us = FIRST_WAIT_US / 2};
        }
    } while (try_again(p, &again, &r, &st, err));
    return st == LB_OK ? check_sum(p, f, b, b->at, err) : st;
}

static lb_status fetch(pull *p, lb_http *h, const lb_pull_file *f, const char *url,
                       const char *blob, const char *part, lb_err *err) {
    body b = {.p = p, .path = part, .fd = -1};
    lb_fstat had;
    LB_TRY(make_folders(part, strlen(p->name.cache), err));
    LB_TRY(lb_os_open_write(part, false, &b.fd, err));
    b.gathered = lb_alloc(GATHERED);
    lb_status st = b.gathered ? lb_os_fstat(b.fd, part, &had, err)
                              : lb_fail(err, LB_E_NOMEM, "out of memory for '%s'", part);
    if (st == LB_OK)
        st = get_whole(p, h, f, url, &b, err);
    if (b.is_wrong && had.size_bytes) { /* what was there may be damaged: all anew, once */
        count(p, -(i64)b.at, false);
        b.is_wrong = false;
        st = lb_os_truncate(b.fd, part, 0, err);
        if (st == LB_OK)
            st = get_whole(p, h, f, url, &b, err);
    }
    if (b.is_wrong)
        (void)lb_os_unlink(part, NULL);
    if (st == LB_OK)
        st = lb_os_sync(b.fd, part, err);
    if (st == LB_OK)
        st = lb_os_close_written(&b.fd, part, err);
    lb_os_close(&b.fd);
    lb_free(b.gathered);
    return st == LB_OK ? lb_os_rename(part, blob, err) : st;
}

/* Waits until no other process fetches the same file (or writes the same ref). */
static lb_status lock_name(pull *p, lb_str name, int *fd, lb_err *err) {
    char path[4096];
    lb_str folder = lb_os_base_name(lb_str_c(p->name.repo));
    if (snprintf(path, sizeof path, "%s/.locks/%.*s/%.*s.lock", p->name.cache, LB_FMT(folder),
                 LB_FMT(name)) >= (int)sizeof path)
        return lb_fail(err, LB_E_IO, "%s: the path is too long", p->name.cache);
    LB_TRY(make_folders(path, strlen(p->name.cache), err));
    LB_TRY(lb_os_open_write(path, false, fd, err));
    for (u32 i = 0;; i++) {
        lb_status st = lb_os_lock(*fd, path, err);
        if (st != LB_E_LIMIT)
            return st;
        if (i == 5)
            say(p, "waiting for another process that fetches the same file (%.300s is locked)",
                path);
        LB_TRY(pause_us(p, 200000, err));
    }
}

static lb_status one_file(pull *p, lb_http *h, lb_pull_file *f, lb_err *err) {
    lb_buf url = {0};
    int lock = -1;
    const char *text = url_of(p, f, &url);
    lb_status st = text ? ask(p, h, f, text, err) : lb_fail(err, LB_E_NOMEM, "out of memory");
    const char *at = st == LB_OK ? link_of(p, f) : NULL;
    const char *blob = st == LB_OK ? path_of(p, "blobs/%.*s", f->etag) : NULL;
    const char *part = st == LB_OK ? path_of(p, "blobs/%.*s.incomplete", f->etag) : NULL;
    if (st == LB_OK && (!at || !blob || !part))
        st = lb_fail(err, LB_E_NOMEM, "out of memory for a path");
    if (st == LB_OK && !has_size(blob, f->size_bytes))
        st = lock_name(p, f->etag, &lock, err);
    if (st == LB_OK && has_size(blob, f->size_bytes)) { /* now that the lock is held */
        f->present = true;
        count(p, f->size_bytes == UINT64_MAX ? 0 : (i64)f->size_bytes, false);
    } else if (st == LB_OK) {
        st = fetch(p, h, f, text, blob, part, err);
    }
    lb_os_close(&lock);
    if (st == LB_OK && !has_size(at, f->size_bytes))
        st = link_file(p, f, err);
    lb_buf_deinit(&url);
    return st;
}

/* ---- all of them ---- */

static void *work(void *arg) {
    pull *p = arg;
    lb_err err = {0};
    lb_http *h = NULL;
    lb_status st = lb_http_open(&h, &err);
    for (;;) {
        lb_lock(&p->lock);
        if (st != LB_OK && p->st == LB_OK) {
            p->st = st;
            p->err = err;
        }
        while (p->next < p->r->n_files && p->r->files[p->next].skipped)
            p->next++;
        lb_pull_file *f =
            p->st == LB_OK && p->next < p->r->n_files ? &p->r->files[p->next++] : NULL;
        lb_unlock(&p->lock);
        if (!f)
            break;
        st = one_file(p, h, f, &err);
    }
    lb_http_close(&h);
    return NULL;
}

/* TLS and name services want more than a worker's usual stack. */
#define CONNECTION_STACK_BYTES ((size_t)2 << 20)
#define CONNECTIONS_MAX 16

static void fetch_all(pull *p) {
    pthread_t thread[CONNECTIONS_MAX];
    pthread_attr_t attr;
    u32 n = LB_MIN(LB_MAX(p->o->connections, 1u), (u32)CONNECTIONS_MAX), started = 0;
    if (n > 1 && pthread_attr_init(&attr) == 0) {
        (void)pthread_attr_setstacksize(&attr, CONNECTION_STACK_BYTES);
        while (started + 1 < n && pthread_create(&thread[started], &attr, work, p) == 0)
            started++;
        (void)pthread_attr_destroy(&attr);
    }
    (void)work(p);
    for (u32 i = 0; i < started; i++)
        (void)pthread_join(thread[i], NULL);
}

static lb_status check_disk(const pull *p, lb_err *err) {
    u64 need = 0;
    char dir[4096];
    for (u64 i = 0; i < p->r->n_files; i++) {
        lb_pull_file *f = &p->r->files[i];
        if (f->skipped || f->size_bytes == UINT64_MAX || !f->etag.len)
            continue;
        snprintf(dir, sizeof dir, "%s/blobs/%.*s", p->name.repo, LB_FMT(f->etag));
        f->present = has_size(dir, f->size_bytes);
        lb_fstat st;
        if (f->present)
            continue;
        need += f->size_bytes;
        lb_str part = lb_str_c(dir);
        snprintf(dir + part.len, sizeof dir - part.len, ".incomplete");
        if (lb_os_exists(dir) && lb_os_stat(dir, &st, NULL) == LB_OK)
            need -= LB_MIN(st.size_bytes, f->size_bytes);
    }
    u64 left = lb_os_disk_free(p->name.cache);
    if (need > left && !p->o->dry_run)
        return lb_fail(err, LB_E_LIMIT, "%.*s: %llu bytes are to be fetched and %s has %llu left",
                       LB_FMT(p->name.id), (unsigned long long)need, p->name.cache,
                       (unsigned long long)left);
    return LB_OK;
}

/* Whether the ref says it already: a cache that is full or cannot be written is then as good. */
static bool has_ref(const char *path, lb_str commit) {
    lb_arena scratch = {0};
    lb_str text;
    bool same = lb_os_exists(path) &&
                lb_os_read_file(path, LB_KIB, &scratch, &text, NULL) == LB_OK &&
                lb_str_eq(text, commit);
    lb_arena_deinit(&scratch);
    return same;
}

static lb_status write_ref(pull *p, lb_err *err) {
    char part[REVISION_MAX + 40];
    int fd = -1, lock = -1;
    const char *path = path_of(p, "refs/%.*s", p->r->revision);
    snprintf(part, sizeof part, "refs/%.*s.lbrx-partial", LB_FMT(p->r->revision));
    const char *tmp = path_of(p, "%.*s", lb_str_c(part));
    if (!path || !tmp)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a path");
    if (lb_str_eq(p->r->revision, p->r->commit) || has_ref(path, p->r->commit))
        return LB_OK;
    LB_TRY(make_folders(path, strlen(p->name.cache), err));
    snprintf(part, sizeof part, "ref-%.*s", LB_FMT(p->r->revision));
    for (char *c = part; *c; c++)
        *c = *c == '/' ? '-' : *c;
    lb_status st = lock_name(p, lb_str_c(part), &lock, err);
    if (st == LB_OK)
        st = lb_os_open_write(tmp, false, &fd, err);
    if (st == LB_OK)
        st = lb_os_pwrite(fd, tmp, p->r->commit.ptr, p->r->commit.len, 0, err);
    if (st == LB_OK)
        st = lb_os_truncate(fd, tmp, p->r->commit.len, err);
    if (st == LB_OK)
        st = lb_os_close_written(&fd, tmp, err);
    lb_os_close(&fd);
    if (st == LB_OK)
        st = lb_os_rename(tmp, path, err);
    lb_os_close(&lock);
    return st;
}

/* A folder of GGUF files is no model: which of them is meant? */
static lb_status check_one(const pull *p, lb_err *err) {
    const lb_pull_file *gguf = NULL;
    if (!p->o->one_model || p->name.file.len)
        return LB_OK;
    for (u64 i = 0; i < p->r->n_files; i++) {
        lb_str path = p->r->files[i].path;
        if (lb_str_ends(path, LB_STR(".safetensors")) || lb_str_ends(path, LB_STR(".bin")) ||
            lb_str_ends(path, LB_STR(".npz")) || lb_str_ends(path, LB_STR(".pth")))
            return LB_OK;
        if (lb_str_ends(path, LB_STR(".gguf")) && !gguf)
            gguf = &p->r->files[i];
    }
    return gguf ? lb_fail(err, LB_E_NOT_FOUND,
                          "hf://%.*s: its models are files, which one? hf://%.*s/%.*s or another "
                          "(lbrx pull --dry-run lists them)",
                          LB_FMT(p->name.id), LB_FMT(p->name.id), LB_FMT(gguf->path))
                : LB_OK;
}

static lb_status run(pull *p, lb_err *err) {
    lb_http *h = NULL;
    LB_TRY(lb_http_open(&h, err));
    lb_status st = list_files(p, h, err);
    lb_http_close(&h);
    LB_TRY(st);
    LB_TRY(check_one(p, err));
    choose(p);
    if (p->r->n_skipped == p->r->n_files)
        return lb_fail(err, LB_E_NOT_FOUND, "%.*s: none of its %llu files is asked for",
                       LB_FMT(p->name.id), (unsigned long long)p->r->n_files);
    for (u64 i = 0; i < p->r->n_files; i++)
        if (!p->r->files[i].skipped && p->r->files[i].size_bytes != UINT64_MAX)
            p->r->total_bytes += p->r->files[i].size_bytes;
    p->r->path = path_of(p, "snapshots/%.*s", p->r->commit);
    if (!p->o->dry_run)
        LB_TRY(make_folders(p->name.repo, 0, err));
    LB_TRY(check_disk(p, err));
    if (p->o->dry_run)
        return LB_OK;
    fetch_all(p);
    if (p->st != LB_OK) {
        *err = p->err;
        return p->st;
    }
    return write_ref(p, err);
}

lb_status lb_pull(const char *arg, const lb_pull_opts *o, lb_arena *arena, lb_pull_result *out,
                  lb_err *err) {
    const char *endpoint = lb_os_env("HF_ENDPOINT");
    pull p = {.o = o, .r = out, .arena = arena, .token = lb_hub_token(arena)};
    *out = (lb_pull_result){0};
    LB_TRY(lb_hub_parse(arg, arena, &p.name, err));
    p.endpoint = lb_str_c(endpoint ? endpoint : ENDPOINT);
    while (p.endpoint.len && p.endpoint.ptr[p.endpoint.len - 1] == '/')
        p.endpoint.len--;
    out->id = p.name.id;
    out->revision = o->revision ? lb_str_c(o->revision) : p.name.revision;
    if (!lb_hub_is_revision(out->revision) || out->revision.len > REVISION_MAX)
        return lb_fail(err, LB_E_USAGE, "%.*s: not a branch, tag or commit", LB_FMT(out->revision));
    lb_mutex_init(&p.lock);
    lb_status st = run(&p, err);
    lb_mutex_deinit(&p.lock);
    for (u64 i = 0; i < out->n_files; i++) {
        const lb_pull_file *f = &out->files[i];
        out->n_present += f->present && !f->skipped;
        out->n_unsummed += !f->skipped && lb_pull_sum_of(f) == LB_PULL_SIZE;
    }
    return st;
}
