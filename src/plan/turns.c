/* SPDX-License-Identifier: Apache-2.0 */
/* turns.c: writes of many threads to a file.
 *
 * A system lets one writer at a time into a file, and those that wait for it spin: 16 threads wrote
 * two thirds of what one did (docs/perf/LOG.md). So they wait here. Who finds nobody writing leads:
 * takes along what the others have brought meanwhile, neighbours in one call, and then wakes them
 * and the next to lead. Larger pieces also have fewer ends in a block that another piece shares
 * (lay.c). */
#include "base/os.h"
#include "plan/sink_internal.h"

/* Pieces of one turn, of which a worker brings LB_ROOTS_MAX at most; the rest is the next one's. */
#define PIECES_MAX 64

struct lb_turn {
    struct lb_turn *next;
    const lb_sink_piece *piece;
    u32 n;
    bool leads, done;
    u32 wake; /* of lb_sink.wake */
    lb_status st;
    lb_err err;
};

/* What a turn writes: pieces by their places, and whose they are. */
typedef struct load {
    u32 n;
    const lb_sink_piece *piece[PIECES_MAX];
    lb_turn *of[PIECES_MAX];
} load;

/* Behind those that lie before it. */
static void add(load *l, const lb_sink_piece *p, lb_turn *of) {
    u32 i = l->n++;
    for (; i > 0 && l->piece[i - 1]->off_bytes > p->off_bytes; i--) {
        l->piece[i] = l->piece[i - 1];
        l->of[i] = l->of[i - 1];
    }
    l->piece[i] = p;
    l->of[i] = of;
}

/* Lock held. The first turns of the file's queue; they stay in a list of their own. */
static lb_turn *take(lb_sink_file *f, load *l) {
    lb_turn *first = f->turns, *last = NULL;
    for (lb_turn *t = first; t && l->n + t->n <= PIECES_MAX; t = t->next) {
        for (u32 i = 0; i < t->n; i++)
            add(l, &t->piece[i], t);
        last = t;
    }
    LB_ASSERT(last);
    f->turns = last->next;
    if (!f->turns)
        f->turns_end = NULL;
    last->next = NULL;
    return first;
}

static void note_dirty(lb_sink *s, lb_sink_file *f, u64 off_bytes, u64 len) {
    lb_lock(&s->mutex);
    f->unsynced = true;
    s->unsynced_bytes += len;
    f->dirty_from = f->dirty_bytes ? LB_MIN(f->dirty_from, off_bytes) : off_bytes;
    f->dirty_to = f->dirty_bytes ? LB_MAX(f->dirty_to, off_bytes + len) : off_bytes + len;
    f->dirty_bytes += len;
    lb_unlock(&s->mutex);
}

/* Pieces [i, end), each of which begins where the one before it ends. */
static void write_run(lb_sink *s, u32 file, int fd, const load *l, u32 i, u32 end) {
    lb_iov iov[PIECES_MAX + 2]; /* zeros on either side */
    lb_sink_file *f = &s->file[file];
    lb_err err = {0};
    u64 off = l->piece[i]->off_bytes, len = 0;
    u32 n = 1;
    for (u32 k = i; k < end; k++) {
        iov[n++] = (lb_iov){(void *)l->piece[k]->ptr, (size_t)l->piece[k]->len};
        len += l->piece[k]->len;
    }
    const lb_sink_pads pads = lb_sink_lay(s, file, off, len);
    iov[0] = (lb_iov){s->zeros, (size_t)pads.before};
    iov[n++] = (lb_iov){s->zeros, (size_t)pads.after};
    off -= pads.before;
    const lb_status st = lb_os_pwritev(fd, f->path, iov, n, off, &err);
    if (st == LB_OK && s->o.sync)
        note_dirty(s, f, off, pads.before + len + pads.after);
    for (u32 k = i; k < end && st != LB_OK; k++)
        if (l->of[k]->st == LB_OK) {
            l->of[k]->st = st;
            l->of[k]->err = err;
        }
}

/* Not locked; the file is this turn's. */
static void write_load(lb_sink *s, u32 file, int fd, const load *l) {
    for (u32 i = 0, end; i < l->n; i = end) {
        u64 to = l->piece[i]->off_bytes + l->piece[i]->len;
        for (end = i + 1; end < l->n && l->piece[end]->off_bytes == to; end++)
            to += l->piece[end]->len;
        write_run(s, file, fd, l, i, end);
    }
}

/* Lock held, and given back. Who is woken finds it free. When enough has come together, the system
 * is told what to write to the disk while others write already. */
static void lead(lb_sink *s, u32 file, int fd) {
    lb_sink_file *f = &s->file[file];
    load l = {0};
    lb_turn *t = take(f, &l);
    bool wake[LB_SINK_WAKES] = {false};
    lb_unlock(&s->mutex);
    write_load(s, file, fd, &l);
    lb_lock(&s->mutex);
    for (; t; t = t->next) {
        t->done = true;
        wake[t->wake] = true;
        f->refs--;
    }
    const u64 off = f->dirty_from, len = f->dirty_to - f->dirty_from;
    const bool enough = f->dirty_bytes >= LB_SINK_WRITEBACK;
    if (enough) {
        f->dirty_bytes = 0;
        f->refs++;
    }
    f->writing = f->turns != NULL;
    if (f->turns) {
        f->turns->leads = true;
        wake[f->turns->wake] = true;
    }
    lb_unlock(&s->mutex);
    for (u32 i = 0; i < LB_SINK_WAKES; i++)
        if (wake[i])
            lb_wake_all(&s->wake[i]);
    if (enough) {
        lb_os_writeback(fd, off, len);
        lb_sink_put_fd(s, file);
    }
}

/* Pieces of one file, PIECES_MAX at most. */
static lb_status take_turn(lb_sink *s, u32 file, const lb_sink_piece *p, u32 n, lb_err *err) {
    lb_sink_file *f = &s->file[file];
    lb_turn me = {.piece = p, .n = n};
    int fd;
    LB_TRY(lb_sink_get_fd(s, file, &fd, err));
    lb_lock(&s->mutex);
    *(f->turns_end ? &f->turns_end->next : &f->turns) = &me;
    f->turns_end = &me;
    me.wake = s->n_turns++ % LB_SINK_WAKES;
    me.leads = !f->writing;
    f->writing = true;
    while (!me.leads && !me.done)
        lb_wait(&s->wake[me.wake], &s->mutex);
    if (me.done)
        lb_unlock(&s->mutex);
    else
        lead(s, file, fd);
    if (me.st != LB_OK && err)
        *err = me.err;
    return me.st;
}

lb_status lb_sink_write_all(lb_sink *s, const lb_sink_piece *p, u32 n, lb_err *err) {
    for (u32 i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && p[end].file == p[i].file && end - i < PIECES_MAX;)
            end++;
        LB_TRY(take_turn(s, p[i].file, p + i, end - i, err));
    }
    return LB_OK;
}

lb_status lb_sink_write(lb_sink *s, u32 file, u64 off_bytes, const void *ptr, u64 len,
                        lb_err *err) {
    const lb_sink_piece p = {file, off_bytes, ptr, len};
    return len ? lb_sink_write_all(s, &p, 1, err) : LB_OK;
}
