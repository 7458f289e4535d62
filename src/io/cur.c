/* SPDX-License-Identifier: Apache-2.0 */
/* cur.c: the bounded cursor: a window over a file, refilled by pread where the position leaves
 * it. */
#include "io/cur.h"
#include "base/os.h"

#define WINDOW_BYTES ((u64)256 << 10)

static unsigned long long ull(u64 v) {
    return v;
}

lb_status lb_cur_open(lb_cur *c, const char *path, lb_err *err) {
    lb_fstat info;
    *c = (lb_cur){.path = path, .fd = -1};
    lb_status st = lb_os_open_read(path, &c->fd, err);
    if (st == LB_OK)
        st = lb_os_fstat(c->fd, path, &info, err);
    if (st == LB_OK && !info.is_file)
        st = lb_fail(err, LB_E_IO, "%s: not a regular file", path);
    if (st == LB_OK) {
        c->size_bytes = info.size_bytes;
        c->window_cap = LB_MIN(WINDOW_BYTES, info.size_bytes);
        c->window = lb_alloc((size_t)c->window_cap);
        if (!c->window)
            st = lb_fail(err, LB_E_NOMEM, "%s: out of memory while opening it", path);
    }
    if (st != LB_OK)
        lb_cur_close(c);
    return st;
}

void lb_cur_mem(lb_cur *c, const char *what, const void *ptr, u64 len) {
    *c = (lb_cur){
        .path = what,
        .fd = -1,
        .size_bytes = len,
        .window = (u8 *)(uintptr_t)ptr, /* never written: there is no file to fill it from */
        .window_len = len,
        .window_cap = len,
    };
}

void lb_cur_close(lb_cur *c) {
    if (c->fd >= 0)
        lb_free(c->window);
    lb_os_close(&c->fd);
    *c = (lb_cur){.fd = -1};
}

static lb_status too_short(const lb_cur *c, u64 n, const char *what, lb_err *err) {
    return lb_fail_at(
        err, LB_E_FORMAT, c->pos,
        "%s: file ends inside %s: byte %llu: %llu bytes needed, %llu left: the file is "
        "damaged or incomplete",
        c->path, what, ull(c->pos), ull(n), ull(lb_cur_left(c)));
}

/* The part of the window that starts at pos. */
static u64 window_left(const lb_cur *c) {
    if (c->pos < c->window_off || c->pos - c->window_off >= c->window_len)
        return 0;
    return c->window_len - (c->pos - c->window_off);
}

static lb_status refill(lb_cur *c, lb_err *err) {
    u64 n = LB_MIN(c->window_cap, lb_cur_left(c));
    c->window_len = 0;
    LB_TRY(lb_os_pread(c->fd, c->path, c->window, n, c->pos, err));
    c->window_off = c->pos;
    c->window_len = n;
    return LB_OK;
}

lb_status lb_cur_bytes(lb_cur *c, void *out, u64 n, const char *what, lb_err *err) {
    u8 *p = out;
    if (n > lb_cur_left(c))
        return too_short(c, n, what, err);
    while (n) {
        u64 have = window_left(c);
        if (have == 0 && n >= c->window_cap) { /* long: straight to its place */
            LB_TRY(lb_os_pread(c->fd, c->path, p, n, c->pos, err));
            c->pos += n;
            return LB_OK;
        }
        if (have == 0) {
            LB_TRY(refill(c, err));
            have = c->window_len;
        }
        u64 step = LB_MIN(n, have);
        memcpy(p, c->window + (c->pos - c->window_off), (size_t)step);
        p += step;
        n -= step;
        c->pos += step;
    }
    return LB_OK;
}

lb_status lb_cur_u8(lb_cur *c, u8 *out, const char *what, lb_err *err) {
    return lb_cur_bytes(c, out, sizeof *out, what, err);
}

lb_status lb_cur_u16(lb_cur *c, u16 *out, const char *what, lb_err *err) {
    return lb_cur_bytes(c, out, sizeof *out, what, err);
}

lb_status lb_cur_u32(lb_cur *c, u32 *out, const char *what, lb_err *err) {
    return lb_cur_bytes(c, out, sizeof *out, what, err);
}

lb_status lb_cur_u64(lb_cur *c, u64 *out, const char *what, lb_err *err) {
    return lb_cur_bytes(c, out, sizeof *out, what, err);
}

lb_status lb_cur_skip(lb_cur *c, u64 n, const char *what, lb_err *err) {
    if (n > lb_cur_left(c))
        return too_short(c, n, what, err);
    c->pos += n;
    return LB_OK;
}

lb_status lb_cur_str(lb_cur *c, u64 n, lb_arena *perm, lb_str *out, const char *what, lb_err *err) {
    *out = LB_STR_NONE;
    if (n > lb_cur_left(c))
        return too_short(c, n, what, err);
    char *p = n < SIZE_MAX ? lb_arena_push(perm, (size_t)n + 1, 1) : NULL;
    if (!p)
        return lb_fail_at(err, LB_E_NOMEM, c->pos, "%s: out of memory for %s (%llu bytes)", c->path,
                          what, ull(n));
    LB_TRY(lb_cur_bytes(c, p, n, what, err));
    *out = (lb_str){p, (size_t)n};
    return LB_OK;
}
