/* SPDX-License-Identifier: Apache-2.0 */
/* windows.c: see windows.h. Each window has a queue of its own: to wait for it is to know that its
 * window is free again. */
#include "model/windows.h"
#include "base/interrupt.h"
#include "base/mem.h"
#include "model/team.h"

/* Long enough that a copy's start does not show (10 us of 600 us at 50 GB/s), short enough that
 * both stay in reach of a small machine. */
#define WINDOW_BYTES (32 * LB_MIB)
#define PIECE_BYTES (512 * LB_KIB) /* that a thread takes at a time */
#define PIECES_MAX 2048u
#define GAP_BYTES 256u  /* that is copied along rather than to begin another copy */
#define THREADS_MAX 16u /* more do not read faster */

/* n rows to the window at `at`. */
typedef struct piece {
    const u8 *from;
    u64 at, n, bytes, stride;
} piece;

typedef struct window {
    lb_dev_buf *buf;
    lb_dev_queue *q;
} window;

struct lb_windows {
    lb_windows_in in;
    window window[2];
    u32 current;
    u64 size;      /* of a window */
    lb_dev_arg to; /* where the current one's bytes go; no buffer: it is empty */
    u64 used;
    piece piece[PIECES_MAX];
    u32 n_pieces;
    lb_team *team;
};

static lb_status make(lb_windows *w, lb_err *err) {
    w->size = LB_MIN(WINDOW_BYTES, LB_MAX(w->in.bytes, (u64)LB_DEV_ALIGN));
    for (u32 i = 0; i < 2; i++) {
        LB_TRY(lb_dev_queue_new(w->in.d, &w->window[i].q, err));
        LB_TRY(lb_dev_buf_new(w->in.d, LB_DEV_HOST, w->size, &w->window[i].buf, err));
    }
    return lb_team_new(&w->team, LB_MIN(LB_MAX(w->in.threads, 1u), THREADS_MAX), 64, err);
}

lb_status lb_windows_new(lb_windows **out, const lb_windows_in *in, lb_err *err) {
    lb_windows *w = lb_alloc_zero(1, sizeof *w);
    *out = NULL;
    if (!w)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a model on a device");
    w->in = *in;
    const lb_status st = make(w, err);
    if (st == LB_OK)
        *out = w;
    else
        lb_windows_free(&w);
    return st;
}

void lb_windows_free(lb_windows **out) {
    lb_windows *w = *out;
    if (!w)
        return;
    for (u32 i = 0; i < 2; i++) {
        lb_dev_queue_free(&w->window[i].q);
        lb_dev_buf_free(&w->window[i].buf);
    }
    lb_team_free(&w->team);
    lb_free(w);
    *out = NULL;
}

static void fill_piece(void *ctx, u64 item, void *scratch) {
    const lb_windows *w = ctx;
    const piece *p = &w->piece[item];
    u8 *to = (u8 *)lb_dev_buf_host(w->window[w->current].buf) + p->at;
    (void)scratch;
    for (u64 i = 0; i < p->n; i++)
        memcpy(to + i * p->bytes, p->from + i * p->stride, p->bytes);
}

/* The current window is filled and sent; the other one is current, and free. */
static lb_status turn(lb_windows *w, lb_err *err) {
    window *now = &w->window[w->current];
    if (!w->to.buf)
        return LB_OK;
    LB_TRY(lb_interrupt_check(err));
    lb_team_run(w->team, w->n_pieces, fill_piece, w);
    LB_TRY(lb_dev_queue_write(now->q, w->to.buf, w->to.off_bytes, lb_dev_buf_host(now->buf),
                              w->used, err));
    w->in.done += w->used;
    if (w->in.progress)
        w->in.progress(w->in.user, LB_MIN(w->in.done, w->in.total), w->in.total);
    w->current = 1 - w->current;
    w->to = (lb_dev_arg){0};
    w->used = 0;
    w->n_pieces = 0;
    return lb_dev_queue_wait(w->window[w->current].q, err);
}

/* Room for at least a row in the current window, where the bytes for `to` can follow. */
static lb_status make_room(lb_windows *w, lb_dev_arg to, u64 row_bytes, lb_err *err) {
    const u64 end = w->to.off_bytes + w->used;
    const bool follows = w->to.buf == to.buf && to.off_bytes >= end &&
                         to.off_bytes - end < GAP_BYTES && w->n_pieces < PIECES_MAX;
    const u64 at = to.off_bytes - w->to.off_bytes;
    if (w->to.buf && (!follows || at >= w->size || row_bytes > w->size - at))
        LB_TRY(turn(w, err));
    if (!w->to.buf)
        w->to = to;
    w->used = to.off_bytes - w->to.off_bytes;
    return LB_OK;
}

/* As many of n rows as a thread takes at a time and as there is room for. */
static u64 add_piece(lb_windows *w, const lb_rows *r, u64 first, u64 n) {
    const u64 room = (w->size - w->used) / r->bytes, most = LB_MAX(PIECE_BYTES / r->bytes, (u64)1);
    n = LB_MIN(LB_MIN(n, room), most);
    w->piece[w->n_pieces++] = (piece){r->base + first * r->stride, w->used, n, r->bytes, r->stride};
    w->used += n * r->bytes;
    return n;
}

/* Bytes that follow each other. */
static lb_status put_block(lb_windows *w, lb_dev_arg to, const u8 *from, u64 bytes, lb_err *err) {
    const u64 step = LB_MIN(PIECE_BYTES, w->size);
    for (u64 at = 0; at < bytes; at += step) {
        const u64 n = LB_MIN(step, bytes - at);
        LB_TRY(make_room(w, (lb_dev_arg){to.buf, to.off_bytes + at}, n, err));
        (void)add_piece(w, &(lb_rows){from + at, 1, n, n}, 0, 1);
    }
    return LB_OK;
}

lb_status lb_windows_put(lb_windows *w, lb_dev_arg to, const lb_rows *r, lb_err *err) {
    if (r->n == 0 || r->bytes == 0)
        return LB_OK;
    if (r->stride == r->bytes)
        return put_block(w, to, r->base, r->n * r->bytes, err);
    for (u64 i = 0; i < r->n;) {
        const lb_dev_arg at = {to.buf, to.off_bytes + i * r->bytes};
        if (r->bytes > LB_MIN(PIECE_BYTES, w->size)) {
            LB_TRY(put_block(w, at, r->base + i * r->stride, r->bytes, err));
            i++;
            continue;
        }
        LB_TRY(make_room(w, at, r->bytes, err));
        i += add_piece(w, r, i, r->n - i);
    }
    return LB_OK;
}

lb_status lb_windows_end(lb_windows *w, lb_err *err) {
    LB_TRY(turn(w, err));
    for (u32 i = 0; i < 2; i++)
        LB_TRY(lb_dev_queue_wait(w->window[i].q, err));
    return LB_OK;
}
