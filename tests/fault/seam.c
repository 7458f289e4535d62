/* SPDX-License-Identifier: Apache-2.0 */
/* seam.c: see seam.h. Each call comes under the names of both of glibc's sets. */
#include "seam.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/syscall.h>
#endif

static seam now;
static atomic_ullong count, transfers;

void seam_set(const seam *s) {
    now = s ? *s : (seam){0};
    atomic_store(&count, 0);
    atomic_store(&transfers, 0);
}

u64 seam_count(void) {
    return atomic_load(&count);
}

#if !defined(LB_SEAM)
bool seam_available(void) {
    return false;
}
#else
bool seam_available(void) {
    return true;
}

/* Whether this call is the one that fails (errno is set) or ends the process. */
static bool hit(u32 kind, const char *path) {
    if (!(now.kinds & kind) || (now.only && path && !strstr(path, now.only)))
        return false;
    u64 n = atomic_fetch_add(&count, 1) + 1;
    if (now.at == 0 || n < now.at || (n > now.at && !now.forever))
        return false;
    if (now.kill && !now.torn)
        (void)raise(SIGKILL);
    errno = now.error;
    return true;
}

/* Bytes that this transfer may move; 0: it is interrupted first. */
static size_t piece(size_t len) {
    if (!now.short_io)
        return len;
    u64 n = atomic_fetch_add(&transfers, 1);
    return n % 3 == 1 ? 0 : LB_MIN(len, (size_t)(1 + n * 37 % 1000));
}

#define WRAP(ret, name, params) \
    ret __real_##name params;   \
    ret __wrap_##name params;   \
    ret __wrap_##name params

#define WRAP_PWRITE(name)                                                 \
    WRAP(ssize_t, name, (int fd, const void *p, size_t len, off_t off)) { \
        if (hit(SEAM_WRITE, NULL)) {                                      \
            int e = errno;                                                \
            if (now.torn && len / 2)                                      \
                (void)__real_##name(fd, p, len / 2, off);                 \
            if (now.kill)                                                 \
                (void)raise(SIGKILL);                                     \
            errno = e;                                                    \
            return -1;                                                    \
        }                                                                 \
        size_t n = piece(len);                                            \
        if (n == 0 && len) {                                              \
            errno = EINTR;                                                \
            return -1;                                                    \
        }                                                                 \
        return __real_##name(fd, p, n, off);                              \
    }
WRAP_PWRITE(pwrite)
WRAP_PWRITE(pwrite64)

#define WRAP_PREAD(name)                                            \
    WRAP(ssize_t, name, (int fd, void *p, size_t len, off_t off)) { \
        if (hit(SEAM_READ, NULL))                                   \
            return -1;                                              \
        size_t n = piece(len);                                      \
        if (n == 0 && len) {                                        \
            errno = EINTR;                                          \
            return -1;                                              \
        }                                                           \
        return __real_##name(fd, p, n, off);                        \
    }
WRAP_PREAD(pread)
WRAP_PREAD(pread64)

/* Short: a part of the first piece that has any bytes. */
#define WRAP_PREADV(name)                                                        \
    WRAP(ssize_t, name, (int fd, const struct iovec *v, int n_iov, off_t off)) { \
        if (hit(SEAM_READ, NULL))                                                \
            return -1;                                                           \
        if (!now.short_io || n_iov == 0)                                         \
            return __real_##name(fd, v, n_iov, off);                             \
        struct iovec one = v[0];                                                 \
        size_t n = piece(one.iov_len);                                           \
        if (n == 0 && one.iov_len) {                                             \
            errno = EINTR;                                                       \
            return -1;                                                           \
        }                                                                        \
        if (n < one.iov_len || n_iov == 1) {                                     \
            one.iov_len = n;                                                     \
            return __real_##name(fd, &one, 1, off);                              \
        }                                                                        \
        return __real_##name(fd, v, n_iov, off);                                 \
    }
WRAP_PREADV(preadv)
WRAP_PREADV(preadv64)

/* Half of it: half of the pieces, of one half of its bytes. Short as of preadv. */
#define WRAP_PWRITEV(name)                                                       \
    WRAP(ssize_t, name, (int fd, const struct iovec *v, int n_iov, off_t off)) { \
        struct iovec one = n_iov ? v[0] : (struct iovec){NULL, 0};               \
        if (hit(SEAM_WRITE, NULL)) {                                             \
            int e = errno;                                                       \
            one.iov_len /= 2;                                                    \
            if (now.torn && n_iov > 1)                                           \
                (void)__real_##name(fd, v, n_iov / 2, off);                      \
            else if (now.torn && one.iov_len)                                    \
                (void)__real_##name(fd, &one, 1, off);                           \
            if (now.kill)                                                        \
                (void)raise(SIGKILL);                                            \
            errno = e;                                                           \
            return -1;                                                           \
        }                                                                        \
        size_t n = piece(one.iov_len);                                           \
        if (n == 0 && one.iov_len) {                                             \
            errno = EINTR;                                                       \
            return -1;                                                           \
        }                                                                        \
        if (n == one.iov_len)                                                    \
            return __real_##name(fd, v, n_iov, off);                             \
        one.iov_len = n;                                                         \
        return __real_##name(fd, &one, 1, off);                                  \
    }
WRAP_PWRITEV(pwritev)
WRAP_PWRITEV(pwritev64)

#define WRAP_TRUNCATE(name)                                                   \
    WRAP(int, name, (int fd, off_t len)) {                                    \
        return hit_or_die(SEAM_TRUNCATE, NULL) ? -1 : __real_##name(fd, len); \
    }

/* What has no halves: torn means before. */
static bool hit_or_die(u32 kind, const char *path) {
    bool yes = hit(kind, path);
    if (yes && now.kill)
        (void)raise(SIGKILL);
    return yes;
}
WRAP_TRUNCATE(ftruncate)
WRAP_TRUNCATE(ftruncate64)

WRAP(int, fsync, (int fd)) {
    if (hit_or_die(SEAM_SYNC, NULL))
        return -1;
    return now.fake_sync ? 0 : __real_fsync(fd);
}

WRAP(int, close, (int fd)) {
    bool yes = hit_or_die(SEAM_CLOSE, NULL);
    int e = errno, r = __real_close(fd);
    errno = yes ? e : errno;
    return yes ? -1 : r;
}

WRAP(int, rename, (const char *from, const char *to)) {
    return hit_or_die(SEAM_RENAME, to) ? -1 : __real_rename(from, to);
}

WRAP(int, unlink, (const char *path)) {
    return hit_or_die(SEAM_REMOVE, path) ? -1 : __real_unlink(path);
}

WRAP(int, unlinkat, (int dir, const char *path, int flags)) {
    return hit_or_die(SEAM_REMOVE, NULL) ? -1 : __real_unlinkat(dir, path, flags);
}

WRAP(int, rmdir, (const char *path)) {
    return hit_or_die(SEAM_REMOVE, path) ? -1 : __real_rmdir(path);
}

WRAP(int, mkdir, (const char *path, mode_t mode)) {
    return hit_or_die(SEAM_MAKE, path) ? -1 : __real_mkdir(path, mode);
}

#define WRAP_OPEN(name)                                                                \
    int __real_##name(const char *path, int flags, ...);                               \
    int __wrap_##name(const char *path, int flags, ...);                               \
    int __wrap_##name(const char *path, int flags, ...) {                              \
        va_list ap;                                                                    \
        va_start(ap, flags);                                                           \
        mode_t mode = flags & O_CREAT ? (mode_t)va_arg(ap, int) : 0;                   \
        va_end(ap);                                                                    \
        if (hit_or_die((flags & O_ACCMODE) == O_RDONLY ? SEAM_OPEN : SEAM_MAKE, path)) \
            return -1;                                                                 \
        return __real_##name(path, flags, mode);                                       \
    }
WRAP_OPEN(open)
WRAP_OPEN(open64)

/* Of syscall only renameat2 with its five arguments. */
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...) {
    va_list ap;
    long arg[6];
    va_start(ap, number);
    for (int i = 0; i < 6; i++)
        arg[i] = va_arg(ap, long);
    va_end(ap);
#if defined(SYS_renameat2)
    if (number == SYS_renameat2 && now.no_exchange) {
        errno = EINVAL;
        return -1;
    }
    if (number == SYS_renameat2 && hit_or_die(SEAM_RENAME, NULL))
        return -1;
#endif
    return __real_syscall(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}
#endif
