/* SPDX-License-Identifier: Apache-2.0 */
/* fds.c: open descriptors of a source's files: at most max_open, the longest idle one closed first.
 *
 *   closed --get--> opening --> borrowed (n_users > 0) --last put--> idle (in the list)
 *      ^                              ^-------------get----------------|  |
 *      +-------------- evicted when another file needs the place ---------+
 *
 * The lock is not held while a file is opened: a slow disk delays those who want that file, no
 * others. */
#include "base/os.h"
#include "base/thread.h"
#include "tensor/source.h"

#define NONE UINT64_MAX
/* Descriptors left to the rest of the process: outputs, journal, libraries, standard streams. */
#define RESERVED 64

typedef struct fd_slot {
    int fd; /* -1: closed */
    u32 n_users;
    bool opening;
    u64 older, newer; /* idle list */
} fd_slot;

struct lb_fds {
    const lb_file *files;
    u64 n_files;
    u32 max_open, n_open; /* those being opened are counted */
    u64 oldest, newest;   /* idle list */
    fd_slot *slots;
    lb_mutex lock;
    lb_cond changed;
};

lb_status lb_fds_new(lb_fds **out, const lb_file *files, u64 n_files, u32 max_open, lb_err *err) {
    *out = NULL;
    lb_fds *f = lb_alloc_zero(1, sizeof *f);
    fd_slot *slots = n_files <= SIZE_MAX ? lb_alloc_zero((size_t)n_files, sizeof *slots) : NULL;
    if (!f || !slots) {
        lb_free(f);
        lb_free(slots);
        return lb_fail(err, LB_E_NOMEM, "out of memory for the table of %llu files",
                       (unsigned long long)n_files);
    }
    for (u64 i = 0; i < n_files; i++)
        slots[i].fd = -1;
    u64 allowed = lb_os_max_open_files();
    allowed = allowed > 2 * RESERVED ? allowed - RESERVED : LB_MAX(allowed / 2, (u64)1);
    f->files = files;
    f->n_files = n_files;
    f->max_open = (u32)LB_MIN((u64)LB_MAX(max_open, 1u), allowed);
    f->oldest = f->newest = NONE;
    f->slots = slots;
    lb_mutex_init(&f->lock);
    lb_cond_init(&f->changed);
    *out = f;
    return LB_OK;
}

static void idle_append(lb_fds *f, u64 i) {
    f->slots[i].older = f->newest;
    f->slots[i].newer = NONE;
    if (f->newest == NONE)
        f->oldest = i;
    else
        f->slots[f->newest].newer = i;
    f->newest = i;
}

static void idle_remove(lb_fds *f, u64 i) {
    fd_slot *s = &f->slots[i];
    if (s->older == NONE)
        f->oldest = s->newer;
    else
        f->slots[s->older].newer = s->newer;
    if (s->newer == NONE)
        f->newest = s->older;
    else
        f->slots[s->newer].older = s->older;
}

static lb_status open_checked(const lb_file *file, int *fd, lb_err *err) {
    lb_fstat now;
    LB_TRY(lb_os_open_read(file->path, fd, err));
    lb_status st = lb_os_fstat(*fd, file->path, &now, err);
    if (st == LB_OK && (now.size_bytes != file->size_bytes || now.ino != file->ino ||
                        now.dev != file->dev || now.mtime_ns != file->mtime_ns))
        st = lb_fail(err, LB_E_IO,
                     "%s: the file was changed or replaced after it was opened first: start again",
                     file->path);
    if (st != LB_OK)
        lb_os_close(fd);
    return st;
}

/* With the lock held: a place for one more descriptor, or waits. False: something has changed
 * since, look again. */
static bool take_place(lb_fds *f) {
    if (f->n_open == f->max_open) {
        if (f->oldest == NONE) {
            lb_wait(&f->changed, &f->lock);
            return false;
        }
        u64 victim = f->oldest;
        idle_remove(f, victim);
        lb_os_close(&f->slots[victim].fd);
        f->n_open--;
    }
    f->n_open++;
    return true;
}

lb_status lb_fds_get(lb_fds *f, u64 file, int *fd, lb_err *err) {
    LB_ASSERT(file < f->n_files);
    fd_slot *s = &f->slots[file];
    lb_status st = LB_OK;
    *fd = -1;
    lb_lock(&f->lock);
    for (;;) {
        if (s->fd >= 0) {
            if (s->n_users++ == 0)
                idle_remove(f, file);
            break;
        }
        if (s->opening) {
            lb_wait(&f->changed, &f->lock);
            continue;
        }
        if (!take_place(f))
            continue;
        int opened = -1;
        s->opening = true;
        lb_unlock(&f->lock);
        st = open_checked(&f->files[file], &opened, err);
        lb_lock(&f->lock);
        s->opening = false;
        lb_wake_all(&f->changed);
        if (st != LB_OK) {
            f->n_open--;
            break;
        }
        s->fd = opened;
        s->n_users = 1;
        break;
    }
    if (st == LB_OK)
        *fd = s->fd;
    lb_unlock(&f->lock);
    return st;
}

void lb_fds_put(lb_fds *f, u64 file) {
    LB_ASSERT(file < f->n_files);
    fd_slot *s = &f->slots[file];
    lb_lock(&f->lock);
    LB_ASSERT(s->n_users > 0);
    if (--s->n_users == 0) {
        idle_append(f, file);
        lb_wake_all(&f->changed);
    }
    lb_unlock(&f->lock);
}

void lb_fds_free(lb_fds **f) {
    if (!*f)
        return;
    for (u64 i = 0; i < (*f)->n_files; i++)
        lb_os_close(&(*f)->slots[i].fd);
    lb_cond_deinit(&(*f)->changed);
    lb_mutex_deinit(&(*f)->lock);
    lb_free((*f)->slots);
    lb_free(*f);
    *f = NULL;
}
