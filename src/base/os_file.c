/* SPDX-License-Identifier: Apache-2.0 */
/* os_file.c: open files: reading and writing at a place, sizes, hints, sync, locks. */
#include "base/os.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* One call moves at most this much: macOS refuses more than INT_MAX, Linux stops at 2 GiB - 4
 * KiB. */
#define TRANSFER_BYTES_MAX ((u64)1 << 30)
#define IOV_MAX_PIECES 256 /* IOV_MAX is 1024 on both systems; 256 pieces are 4 KiB of stack */

static unsigned long long ull(u64 v) {
    return v;
}

static lb_status io_fail(lb_err *err, u64 off, const char *what, const char *path) {
    return lb_fail_at(err, LB_E_IO, off, "%s: %s failed at byte %llu: %s", path, what, ull(off),
                      strerror(errno));
}

/* Does [off, off + len) stay inside what a file offset can say? */
static bool range_ok(u64 off, u64 len) {
    return off <= INT64_MAX && len <= INT64_MAX - off;
}

lb_status lb_os_open_read(const char *path, int *fd, lb_err *err) {
    do
        *fd = open(path, O_RDONLY | O_CLOEXEC);
    while (*fd < 0 && errno == EINTR);
    if (*fd >= 0)
        return LB_OK;
    return lb_fail(err, errno == ENOENT ? LB_E_NOT_FOUND : LB_E_IO, "%s: cannot be opened: %s",
                   path, strerror(errno));
}

lb_status lb_os_open_write(const char *path, bool create_new, int *fd, lb_err *err) {
    int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (create_new ? O_EXCL : 0);
    do
        *fd = open(path, flags, 0644);
    while (*fd < 0 && errno == EINTR);
    if (*fd >= 0)
        return LB_OK;
    return lb_fail(err, LB_E_IO, "%s: cannot be opened for writing: %s", path, strerror(errno));
}

lb_status lb_os_open_temp(const char *dir, int *fd, lb_err *err) {
    char path[4096];
    if (!dir)
        dir = getenv("TMPDIR");
    if (!dir || !*dir)
        dir = "/tmp";
    int n = snprintf(path, sizeof path, "%s/lbrx-XXXXXX", dir);
    if (n < 0 || (size_t)n >= sizeof path)
        return lb_fail(err, LB_E_IO, "%s: too long a path for a temporary file", dir);
    *fd = mkostemp(path, O_CLOEXEC);
    if (*fd < 0)
        return lb_fail(err, LB_E_IO, "%s: a temporary file cannot be made there: %s", dir,
                       strerror(errno));
    (void)unlink(path);
    return LB_OK;
}

/* EINTR is not repeated: Linux has freed the number already, another thread may own it by now. */
void lb_os_close(int *fd) {
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

lb_status lb_os_close_written(int *fd, const char *path, lb_err *err) {
    int r = *fd >= 0 ? close(*fd) : 0;
    *fd = -1;
    if (r == 0 || errno == EINTR)
        return LB_OK;
    return lb_fail(err, LB_E_IO, "%s: closing it failed: %s", path, strerror(errno));
}

static void fill_stat(const struct stat *st, lb_fstat *out) {
    *out = (lb_fstat) {
        .size_bytes = st->st_size > 0 ? (u64)st->st_size : 0, .dev = (u64)st->st_dev,
        .ino = (u64)st->st_ino,
#if defined(__APPLE__)
        .mtime_ns = (i64)st->st_mtimespec.tv_sec * 1000000000 + st->st_mtimespec.tv_nsec,
#else
        .mtime_ns = (i64)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec,
#endif
        .is_dir = S_ISDIR(st->st_mode), .is_file = S_ISREG(st->st_mode),
    };
}

/* A link that leads in a circle leads to nothing. */
static lb_status stat_fail(lb_err *err, const char *path) {
    bool nothing = errno == ENOENT || errno == ENOTDIR || errno == ELOOP;
    return lb_fail(err, nothing ? LB_E_NOT_FOUND : LB_E_IO, "%s: %s", path, strerror(errno));
}

lb_status lb_os_stat(const char *path, lb_fstat *out, lb_err *err) {
    struct stat st;
    if (stat(path, &st) != 0)
        return stat_fail(err, path);
    fill_stat(&st, out);
    return LB_OK;
}

lb_status lb_os_stat_link(const char *path, lb_fstat *out, lb_err *err) {
    struct stat st;
    if (lstat(path, &st) != 0)
        return stat_fail(err, path);
    fill_stat(&st, out);
    return LB_OK;
}

lb_status lb_os_fstat(int fd, const char *path, lb_fstat *out, lb_err *err) {
    struct stat st;
    if (fstat(fd, &st) != 0)
        return lb_fail(err, LB_E_IO, "%s: %s", path, strerror(errno));
    fill_stat(&st, out);
    return LB_OK;
}

static lb_status short_read(lb_err *err, const char *path, u64 end, u64 want) {
    return lb_fail_at(err, LB_E_IO, end, "%s: file ends at byte %llu, but byte %llu is needed",
                      path, ull(end), ull(want));
}

lb_status lb_os_pread(int fd, const char *path, void *buf, u64 len, u64 off, lb_err *err) {
    u8 *p = buf;
    if (!range_ok(off, len))
        return lb_fail_at(err, LB_E_IO, off, "%s: no file has a byte %llu", path, ull(off));
    for (u64 at = 0; at < len;) {
        u64 want = LB_MIN(len - at, TRANSFER_BYTES_MAX);
        ssize_t n = pread(fd, p + at, (size_t)want, (off_t)(off + at));
        if (n > 0)
            at += (u64)n;
        else if (n == 0)
            return short_read(err, path, off + at, off + len);
        else if (errno != EINTR)
            return io_fail(err, off + at, "reading", path);
    }
    return LB_OK;
}

lb_status lb_os_pwrite(int fd, const char *path, const void *buf, u64 len, u64 off, lb_err *err) {
    const u8 *p = buf;
    if (!range_ok(off, len))
        return lb_fail_at(err, LB_E_IO, off, "%s: no file has a byte %llu", path, ull(off));
    for (u64 at = 0; at < len;) {
        u64 want = LB_MIN(len - at, TRANSFER_BYTES_MAX);
        ssize_t n = pwrite(fd, p + at, (size_t)want, (off_t)(off + at));
        if (n > 0) {
            at += (u64)n;
        } else if (n == 0 || errno != EINTR) {
            if (n == 0)
                errno = ENOSPC;
            return io_fail(err, off + at, "writing", path);
        }
    }
    return LB_OK;
}

#if defined(__APPLE__) /* preadv and pwritev came with macOS 11 only */
lb_status lb_os_preadv(int fd, const char *path, const lb_iov *iov, size_t n_iov, u64 off,
                       lb_err *err) {
    for (size_t i = 0; i < n_iov; i++) {
        LB_TRY(lb_os_pread(fd, path, iov[i].ptr, iov[i].len, off, err));
        if (!lb_add_u64(off, iov[i].len, &off))
            return lb_fail_at(err, LB_E_IO, off, "%s: no file has so many bytes", path);
    }
    return LB_OK;
}

lb_status lb_os_pwritev(int fd, const char *path, const lb_iov *iov, size_t n_iov, u64 off,
                        lb_err *err) {
    for (size_t i = 0; i < n_iov; i++) {
        LB_TRY(lb_os_pwrite(fd, path, iov[i].ptr, iov[i].len, off, err));
        if (!lb_add_u64(off, iov[i].len, &off))
            return lb_fail_at(err, LB_E_IO, off, "%s: no file has so many bytes", path);
    }
    return LB_OK;
}
#else
/* i, done: the piece that comes next and how much of it is through. */
typedef struct pieces {
    const lb_iov *iov;
    size_t n, i, done;
} pieces;

/* What the next call has; how many there are of it. */
static size_t next_call(const pieces *p, struct iovec *v, u64 *total) {
    size_t n = 0;
    *total = 0;
    for (size_t j = p->i; j < p->n && n < IOV_MAX_PIECES && *total < TRANSFER_BYTES_MAX; j++) {
        size_t from = j == p->i ? p->done : 0;
        size_t len = (size_t)LB_MIN((u64)(p->iov[j].len - from), TRANSFER_BYTES_MAX - *total);
        if (len == 0)
            continue;
        v[n].iov_base = (u8 *)p->iov[j].ptr + from;
        v[n++].iov_len = len;
        *total += len;
    }
    return n;
}

static void step_over(pieces *p, u64 left) {
    while (left) {
        u64 step = LB_MIN(left, (u64)(p->iov[p->i].len - p->done));
        left -= step;
        p->done += (size_t)step;
        if (p->done == p->iov[p->i].len) {
            p->i++;
            p->done = 0;
        }
    }
}

/* All of p, from off on, read or written. */
static lb_status transfer(int fd, const char *path, pieces *p, u64 off, bool writes, lb_err *err) {
    struct iovec v[IOV_MAX_PIECES];
    u64 total;
    for (size_t n; (n = next_call(p, v, &total)) != 0;) {
        if (!range_ok(off, total))
            return lb_fail_at(err, LB_E_IO, off, "%s: no file has a byte %llu", path, ull(off));
        const ssize_t got =
            writes ? pwritev(fd, v, (int)n, (off_t)off) : preadv(fd, v, (int)n, (off_t)off);
        if (got == 0 && !writes)
            return short_read(err, path, off, off + total);
        if (got == 0)
            errno = ENOSPC;
        if (got == 0 || (got < 0 && errno != EINTR))
            return io_fail(err, off, writes ? "writing" : "reading", path);
        off += got > 0 ? (u64)got : 0;
        step_over(p, got > 0 ? (u64)got : 0);
    }
    return LB_OK;
}

lb_status lb_os_preadv(int fd, const char *path, const lb_iov *iov, size_t n_iov, u64 off,
                       lb_err *err) {
    return transfer(fd, path, &(pieces){iov, n_iov, 0, 0}, off, false, err);
}

lb_status lb_os_pwritev(int fd, const char *path, const lb_iov *iov, size_t n_iov, u64 off,
                        lb_err *err) {
    return transfer(fd, path, &(pieces){iov, n_iov, 0, 0}, off, true, err);
}
#endif

lb_status lb_os_truncate(int fd, const char *path, u64 size_bytes, lb_err *err) {
    int r;
    if (!range_ok(size_bytes, 0))
        return lb_fail(err, LB_E_IO, "%s: no file has %llu bytes", path, ull(size_bytes));
    do
        r = ftruncate(fd, (off_t)size_bytes);
    while (r != 0 && errno == EINTR);
    if (r == 0)
        return LB_OK;
    return lb_fail(err, LB_E_IO, "%s: cannot be made %llu bytes long: %s", path, ull(size_bytes),
                   strerror(errno));
}

lb_status lb_os_sync(int fd, const char *path, lb_err *err) {
    int r;
#if defined(__APPLE__)
    if (fcntl(fd, F_FULLFSYNC) == 0)
        return LB_OK; /* else: a file system without it */
#endif
    do
        r = fsync(fd);
    while (r != 0 && errno == EINTR);
    if (r == 0 || errno == EINVAL || errno == ENOTSUP) /* a pipe or special file: nothing to sync */
        return LB_OK;
    return lb_fail(err, LB_E_IO, "%s: cannot be synced to disk: %s", path, strerror(errno));
}

void lb_os_readahead(int fd, u64 off, u64 len) {
    if (!range_ok(off, len) || len == 0)
        return;
#if defined(__APPLE__)
    struct radvisory r = {(off_t)off, (int)LB_MIN(len, (u64)INT32_MAX)};
    (void)fcntl(fd, F_RDADVISE, &r);
#elif defined(POSIX_FADV_WILLNEED)
    (void)posix_fadvise(fd, (off_t)off, (off_t)len, POSIX_FADV_WILLNEED);
#else
    (void)fd;
#endif
}

void lb_os_writeback(int fd, u64 off, u64 len) {
    if (!range_ok(off, len) || len == 0)
        return;
#if defined(__linux__)
    (void)sync_file_range(fd, (off_t)off, (off_t)len, SYNC_FILE_RANGE_WRITE);
#else
    (void)fd;
#endif
}

void lb_os_drop_cache(int fd) {
#if defined(POSIX_FADV_DONTNEED)
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
#else
    (void)fd;
#endif
}

lb_status lb_os_lock(int fd, const char *path, lb_err *err) {
    int r;
    do
        r = flock(fd, LOCK_EX | LOCK_NB);
    while (r != 0 && errno == EINTR);
    if (r == 0)
        return LB_OK;
    if (errno == EWOULDBLOCK)
        return lb_fail(err, LB_E_LIMIT, "%s: another process is writing it: wait for it or stop it",
                       path);
    return lb_fail(err, LB_E_IO, "%s: cannot be locked: %s", path, strerror(errno));
}

lb_status lb_os_replace_file(const char *path, lb_str bytes, lb_err *err) {
    lb_arena a = {0};
    const char *part = lb_arena_printf(&a, "%s.lbrx-partial", path).ptr;
    int fd = -1;
    lb_status st = part ? lb_os_open_write(part, false, &fd, err)
                        : lb_fail(err, LB_E_NOMEM, "out of memory for a path");
    if (st == LB_OK)
        st = lb_os_pwrite(fd, part, bytes.ptr, bytes.len, 0, err);
    if (st == LB_OK)
        st = lb_os_truncate(fd, part, bytes.len, err);
    if (st == LB_OK)
        st = lb_os_sync(fd, part, err);
    if (st == LB_OK)
        st = lb_os_close_written(&fd, part, err);
    if (st == LB_OK)
        st = lb_os_rename(part, path, err);
    if (st != LB_OK && fd >= 0)
        (void)lb_os_unlink(part, NULL);
    lb_os_close(&fd);
    lb_arena_deinit(&a);
    return st;
}

lb_status lb_os_append_private(const char *path, lb_str bytes, lb_err *err) {
    int fd;
    ssize_t n;
    do
        fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return lb_fail(err, LB_E_IO, "%s: cannot be opened for writing: %s", path, strerror(errno));
    do
        n = write(fd, bytes.ptr, bytes.len);
    while (n < 0 && errno == EINTR);
    lb_os_close(&fd);
    return n == (ssize_t)bytes.len
               ? LB_OK
               : lb_fail(err, LB_E_IO, "%s: cannot be written: %s", path, strerror(errno));
}

lb_status lb_os_write_all(int fd, lb_str bytes, lb_err *err) {
    while (bytes.len) {
        ssize_t n = write(fd, bytes.ptr, bytes.len);
        if (n < 0 && errno == EAGAIN) { /* another program made it non-blocking */
            struct pollfd p = {.fd = fd, .events = POLLOUT};
            (void)poll(&p, 1, -1);
        } else if (n < 0 && errno != EINTR) {
            return lb_fail(err, LB_E_IO, "%s cannot be written: %s", fd == 2 ? "stderr" : "stdout",
                           strerror(errno));
        }
        bytes = lb_str_sub(bytes, n > 0 ? (size_t)n : 0, bytes.len);
    }
    return LB_OK;
}
