/* SPDX-License-Identifier: Apache-2.0 */
/* os_fs.c: names and folders: rename, exchange, remove, list, small files at once, path parts. */
#include "base/os.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/syscall.h>
#endif

bool lb_os_exists(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0;
}

lb_status lb_os_sync_dir(const char *path, lb_err *err) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return lb_fail(err, LB_E_IO, "%s: cannot be opened to sync it: %s", path, strerror(errno));
    lb_status st = lb_os_sync(fd, path, err);
    lb_os_close(&fd);
    return st;
}

lb_status lb_os_rename(const char *from, const char *to, lb_err *err) {
    if (rename(from, to) == 0)
        return LB_OK;
    return lb_fail(err, LB_E_IO, "%s: cannot be renamed to %s: %s", from, to, strerror(errno));
}

/* Of linux/fs.h, whose names musl and old headers lack. */
enum { NOREPLACE = 1, EXCHANGE = 2 };

static int rename_with(const char *from, const char *to, unsigned flags) {
#if defined(__APPLE__)
    return renamex_np(from, to, flags == EXCHANGE ? RENAME_SWAP : RENAME_EXCL);
#elif defined(SYS_renameat2)
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
#else
    (void)from;
    (void)to;
    (void)flags;
    errno = ENOSYS;
    return -1;
#endif
}

/* The system or the file system has no such renaming. */
static bool cannot(int e) {
    return e == EINVAL || e == ENOSYS || e == ENOTSUP || e == EOPNOTSUPP;
}

lb_status lb_os_rename_new(const char *from, const char *to, lb_err *err) {
    if (rename_with(from, to, NOREPLACE) == 0)
        return LB_OK;
    if (errno == EEXIST || (cannot(errno) && lb_os_exists(to)))
        return lb_fail(err, LB_E_USAGE, "%s exists: it is not replaced", to);
    if (cannot(errno))
        return lb_os_rename(from, to, err);
    return lb_fail(err, LB_E_IO, "%s: cannot be renamed to %s: %s", from, to, strerror(errno));
}

lb_status lb_os_exchange(const char *a, const char *b, lb_err *err) {
    if (rename_with(a, b, EXCHANGE) == 0)
        return LB_OK;
    return lb_fail(err, cannot(errno) ? LB_E_UNSUPPORTED : LB_E_IO,
                   "%s and %s cannot be exchanged: %s", a, b, strerror(errno));
}

lb_status lb_os_symlink(const char *target, const char *path, lb_err *err) {
    if (symlink(target, path) == 0)
        return LB_OK;
    return lb_fail(err, LB_E_IO, "%s: no link can be made: %s", path, strerror(errno));
}

lb_status lb_os_unlink(const char *path, lb_err *err) {
    if (unlink(path) == 0 || errno == ENOENT)
        return LB_OK;
    return lb_fail(err, LB_E_IO, "%s: cannot be removed: %s", path, strerror(errno));
}

lb_status lb_os_mkdir(const char *path, bool exist_ok, lb_err *err) {
    lb_fstat st;
    if (mkdir(path, 0755) == 0)
        return LB_OK;
    int e = errno;
    /* whatever it says of a folder that is there: of a system that cannot be written it may be
     * EROFS
     */
    if (exist_ok && lb_os_stat(path, &st, NULL) == LB_OK && st.is_dir)
        return LB_OK;
    return lb_fail(err, LB_E_IO, "%s: folder cannot be made: %s", path, strerror(e));
}

lb_status lb_os_rmdir(const char *path, lb_err *err) {
    if (rmdir(path) == 0)
        return LB_OK;
    return lb_fail(err, LB_E_IO, "%s: folder cannot be removed: %s", path, strerror(errno));
}

/* ---- removing a tree ----
 * One open folder a level; names are looked up in the folder that is open, and links are removed,
 * not followed, so that nobody can lead it elsewhere by swapping a folder for a link meanwhile. */

#define TREE_DEPTH_MAX 64

static lb_status tree_fail(lb_err *err, const char *path, const char *name) {
    return lb_fail(err, LB_E_IO, "%s: \"%s\" in it cannot be removed: %s", path, name,
                   strerror(errno));
}

static DIR *open_dir_at(int parent, const char *name) {
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d && fd >= 0)
        lb_os_close(&fd);
    return d;
}

static bool is_dots(const char *name) {
    return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
}

typedef struct tree_level {
    DIR *dir;
    char name[NAME_MAX + 1]; /* in the level above */
} tree_level;

/* Removes what stands in the folder levels[0]. */
static lb_status empty_tree(tree_level *levels, const char *path, lb_err *err) {
    size_t depth = 1;
    while (depth) {
        tree_level *top = &levels[depth - 1];
        errno = 0;
        const struct dirent *e = readdir(top->dir);
        if (!e) {
            if (errno)
                return tree_fail(err, path, top->name);
            (void)closedir(top->dir);
            top->dir = NULL;
            depth--;
            if (depth && unlinkat(dirfd(levels[depth - 1].dir), top->name, AT_REMOVEDIR) != 0)
                return tree_fail(err, path, top->name);
            if (depth)
                rewinddir(levels[depth - 1].dir); /* it was changed while being read */
            continue;
        }
        if (is_dots(e->d_name))
            continue;
        if (unlinkat(dirfd(top->dir), e->d_name, 0) == 0 || errno == ENOENT)
            continue;
        if (errno != EISDIR &&
            errno != EPERM) /* Linux says the first of a folder, POSIX the second */
            return tree_fail(err, path, e->d_name);
        if (depth == TREE_DEPTH_MAX)
            return lb_fail(err, LB_E_LIMIT, "%s: folders are nested deeper than %d", path,
                           TREE_DEPTH_MAX);
        size_t len = strlen(e->d_name);
        if (len > NAME_MAX)
            return tree_fail(err, path, e->d_name);
        tree_level *sub = &levels[depth];
        memcpy(sub->name, e->d_name, len + 1);
        sub->dir = open_dir_at(dirfd(top->dir), sub->name);
        if (!sub->dir)
            return tree_fail(err, path, sub->name);
        depth++;
    }
    return LB_OK;
}

lb_status lb_os_remove_tree(const char *path, lb_err *err) {
    struct stat st;
    if (lstat(path, &st) != 0)
        return errno == ENOENT ? LB_OK : tree_fail(err, path, ".");
    if (!S_ISDIR(st.st_mode))
        return lb_os_unlink(path, err);
    tree_level *levels = lb_alloc_zero(TREE_DEPTH_MAX, sizeof *levels);
    if (!levels)
        return lb_fail(err, LB_E_NOMEM, "%s: out of memory while removing it", path);
    levels[0].dir = open_dir_at(AT_FDCWD, path);
    lb_status s = levels[0].dir ? empty_tree(levels, path, err) : tree_fail(err, path, ".");
    for (size_t i = 0; i < TREE_DEPTH_MAX; i++)
        if (levels[i].dir)
            (void)closedir(levels[i].dir);
    lb_free(levels);
    return s == LB_OK ? lb_os_rmdir(path, err) : s;
}

/* ---- listing ---- */

static int compare_names(const void *a, const void *b) {
    return lb_str_cmp(*(const lb_str *)a, *(const lb_str *)b);
}

lb_status lb_os_list(const char *path, lb_arena *perm, lb_str **names, u64 *n, lb_err *err) {
    lb_status st = LB_OK;
    lb_buf list = {0}; /* of lb_str; the names themselves go to the arena */
    *names = NULL;
    *n = 0;
    DIR *d = opendir(path);
    if (!d)
        return lb_fail(err, errno == ENOENT ? LB_E_NOT_FOUND : LB_E_IO,
                       "%s: folder cannot be read: %s", path, strerror(errno));
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(d);
        if (!e && errno)
            st = lb_fail(err, LB_E_IO, "%s: folder cannot be read: %s", path, strerror(errno));
        if (!e)
            break;
        if (is_dots(e->d_name))
            continue;
        lb_str s = lb_arena_str(perm, lb_str_c(e->d_name));
        lb_buf_put(&list, &s, sizeof s);
        if (!s.ptr || list.oom) {
            st = lb_fail(err, LB_E_NOMEM, "%s: out of memory while listing the folder", path);
            break;
        }
    }
    (void)closedir(d);
    u64 count = list.len / sizeof(lb_str);
    lb_str *out = st == LB_OK ? lb_arena_new(perm, lb_str, count) : NULL;
    if (st == LB_OK && !out)
        st = lb_fail(err, LB_E_NOMEM, "%s: out of memory while listing the folder", path);
    if (st == LB_OK && count) {
        memcpy(out, list.ptr, list.len);
        qsort(out, (size_t)count, sizeof *out, compare_names);
    }
    if (st == LB_OK) {
        *names = out;
        *n = count;
    }
    lb_buf_deinit(&list);
    return st;
}

/* ---- small files ---- */

static lb_status too_large(lb_err *err, const char *path, u64 max_bytes) {
    return lb_fail(err, LB_E_LIMIT, "%s: larger than the limit of %llu bytes for such a file", path,
                   (unsigned long long)max_bytes);
}

/* A pipe or a file of /proc, whose size is not known before. */
static lb_status read_stream(int fd, const char *path, u64 max_bytes, lb_buf *out, lb_err *err) {
    u8 piece[4096];
    for (;;) {
        ssize_t n = read(fd, piece, sizeof piece);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return lb_fail(err, LB_E_IO, "%s: reading failed: %s", path, strerror(errno));
        if (n == 0)
            return lb_buf_status(out, err);
        if ((u64)n > max_bytes - out->len)
            return too_large(err, path, max_bytes);
        lb_buf_put(out, piece, (size_t)n);
    }
}

static lb_status read_open_file(int fd, const char *path, u64 max_bytes, lb_arena *perm,
                                lb_str *out, lb_err *err) {
    lb_fstat info;
    lb_buf heap = {0};
    LB_TRY(lb_os_fstat(fd, path, &info, err));
    if (info.is_dir)
        return lb_fail(err, LB_E_IO, "%s: is a folder; a file is needed", path);
    if (info.is_file && info.size_bytes > 0) {
        if (info.size_bytes > max_bytes)
            return too_large(err, path, max_bytes);
        u64 cap = info.size_bytes + 1; /* a file's size is below 2^63 */
        char *p = cap <= SIZE_MAX ? lb_arena_push(perm, (size_t)cap, 16) : NULL;
        if (!p)
            return lb_fail(err, LB_E_NOMEM, "%s: out of memory while reading it", path);
        *out = (lb_str){p, (size_t)info.size_bytes};
        return lb_os_pread(fd, path, p, info.size_bytes, 0, err);
    }
    lb_status st = read_stream(fd, path, max_bytes, &heap, err);
    if (st == LB_OK)
        *out = lb_arena_str(perm, lb_buf_str(&heap));
    if (st == LB_OK && !out->ptr)
        st = lb_fail(err, LB_E_NOMEM, "%s: out of memory while reading it", path);
    lb_buf_deinit(&heap);
    return st;
}

lb_status lb_os_read_file(const char *path, u64 max_bytes, lb_arena *perm, lb_str *out,
                          lb_err *err) {
    int fd = -1;
    *out = LB_STR_NONE;
    LB_TRY(lb_os_open_read(path, &fd, err));
    lb_status st = read_open_file(fd, path, max_bytes, perm, out, err);
    if (st != LB_OK)
        *out = LB_STR_NONE;
    lb_os_close(&fd);
    return st;
}

/* ---- paths ---- */

const char *lb_os_join(lb_arena *perm, const char *dir, lb_str name) {
    size_t n = strlen(dir);
    const char *slash = n && dir[n - 1] == '/' ? "" : "/";
    return lb_arena_printf(perm, "%s%s%.*s", dir, slash, LB_FMT(name)).ptr;
}

static lb_str trim_slashes(lb_str path) {
    while (path.len > 1 && path.ptr[path.len - 1] == '/')
        path.len--;
    return path;
}

/* Place behind the last slash of a path without trailing ones. */
static size_t name_start(lb_str path) {
    size_t i = path.len;
    while (i && path.ptr[i - 1] != '/')
        i--;
    return i;
}

lb_str lb_os_base_name(lb_str path) {
    path = trim_slashes(path);
    if (path.len == 1 && path.ptr[0] == '/')
        return path;
    return lb_str_sub(path, name_start(path), path.len);
}

lb_str lb_os_dir_name(lb_str path) {
    path = trim_slashes(path);
    size_t i = name_start(path);
    if (i == 0)
        return LB_STR(".");
    return trim_slashes(lb_str_sub(path, 0, i));
}

u64 lb_os_disk_free(const char *dir) {
    struct statvfs s;
    u64 bytes;
    if (statvfs(dir, &s) != 0 || !lb_mul_u64(s.f_bavail, s.f_frsize, &bytes))
        return UINT64_MAX;
    return bytes;
}
