/* SPDX-License-Identifier: Apache-2.0 */
/* os.h: files, folders, clock and process facts. The only place that talks to the operating system.
 *
 * Paths are NUL-terminated. Reads and writes loop over short transfers and EINTR. Errors name the
 * path and the system's reason, as LB_E_IO (LB_E_NOT_FOUND for ENOENT when opening for reading). */
#ifndef LB_BASE_OS_H
#define LB_BASE_OS_H

#include "base/base.h"
#include "base/mem.h"

typedef struct lb_fstat {
    u64 size_bytes, dev, ino;
    i64 mtime_ns;
    bool is_dir, is_file;
} lb_fstat;

lb_status lb_os_stat(const char *path, lb_fstat *out, lb_err *err); /* follows links */
/* Of the name itself: a link is neither file nor folder. */
lb_status lb_os_stat_link(const char *path, lb_fstat *out, lb_err *err);
bool lb_os_exists(const char *path); /* links not followed */

lb_status lb_os_open_read(const char *path, int *fd, lb_err *err);
/* Read-write, 0644; create_new: O_EXCL. A link as the last component is refused: nobody else's file
 * is written by way of a name that we made up. */
lb_status lb_os_open_write(const char *path, bool create_new, int *fd, lb_err *err);
/* A file without a name in dir (NULL: TMPDIR, else /tmp), gone when it is closed. */
lb_status lb_os_open_temp(const char *dir, int *fd, lb_err *err);
void lb_os_close(int *fd); /* sets -1; -1 is fine */
/* Of a file that was written: a network's file system tells only here that it could not keep it. */
lb_status lb_os_close_written(int *fd, const char *path, lb_err *err);
lb_status lb_os_fstat(int fd, const char *path, lb_fstat *out, lb_err *err);

/* Exactly len bytes at off, or an error ("file ends at ..." when short). path is for the
 * message. */
lb_status lb_os_pread(int fd, const char *path, void *buf, u64 len, u64 off, lb_err *err);
lb_status lb_os_pwrite(int fd, const char *path, const void *buf, u64 len, u64 off, lb_err *err);
/* Scatter: file bytes from off go to the pieces in order. Splits at the system's limit of
 * pieces. */
typedef struct lb_iov {
    void *ptr;
    size_t len;
} lb_iov;
lb_status lb_os_preadv(int fd, const char *path, const lb_iov *iov, size_t n_iov, u64 off,
                       lb_err *err);
/* Gather: the pieces, in order, from off on. */
lb_status lb_os_pwritev(int fd, const char *path, const lb_iov *iov, size_t n_iov, u64 off,
                        lb_err *err);

lb_status lb_os_truncate(int fd, const char *path, u64 size_bytes, lb_err *err);
lb_status lb_os_sync(int fd, const char *path, lb_err *err); /* fsync; F_FULLFSYNC on macOS */
lb_status lb_os_sync_dir(const char *path, lb_err *err);
void lb_os_readahead(int fd, u64 off, u64 len); /* a hint; may block a little */
void lb_os_writeback(int fd, u64 off, u64 len); /* start writing dirty pages; a hint */
/* Whether 2 MiB of a file that is open for reading too, from a multiple of that on, lie in one page
 * of the system's cache; what is not there is read first. False where it cannot be known. */
#define LB_LARGE_PAGE (2 * LB_MIB)
bool lb_os_in_large_page(int fd, u64 off);
/* Forgets what the memory holds of a whole file, so that it is read from the disk; a hint. */
void lb_os_drop_cache(int fd);

lb_status lb_os_rename(const char *from, const char *to, lb_err *err);
/* LB_E_USAGE where `to` exists: nothing is replaced. */
lb_status lb_os_rename_new(const char *from, const char *to, lb_err *err);
/* LB_E_UNSUPPORTED where the file system cannot. */
lb_status lb_os_exchange(const char *a, const char *b, lb_err *err);
lb_status lb_os_symlink(const char *target, const char *path, lb_err *err);
lb_status lb_os_unlink(const char *path, lb_err *err); /* absent is fine */
lb_status lb_os_mkdir(const char *path, bool exist_ok, lb_err *err);
lb_status lb_os_rmdir(const char *path, lb_err *err);
lb_status lb_os_remove_tree(const char *path, lb_err *err); /* never follows links */
/* Advisory exclusive lock on an open file; LB_E_LIMIT if another process holds it. */
lb_status lb_os_lock(int fd, const char *path, lb_err *err);

/* Names in a folder (no . and ..), sorted bytewise, in the arena. */
lb_status lb_os_list(const char *path, lb_arena *perm, lb_str **names, u64 *n, lb_err *err);

/* A small file at once; refused with LB_E_LIMIT above max_bytes. NUL-terminated beyond its
 * length. */
lb_status lb_os_read_file(const char *path, u64 max_bytes, lb_arena *perm, lb_str *out,
                          lb_err *err);

/* Writes a small file beside and puts it in the place of what is there. */
lb_status lb_os_replace_file(const char *path, lb_str bytes, lb_err *err);
/* At the end of a file, which is made for its owner alone. */
lb_status lb_os_append_private(const char *path, lb_str bytes, lb_err *err);

/* "dir/name" in the arena, NUL-terminated. */
const char *lb_os_join(lb_arena *perm, const char *dir, lb_str name);
lb_str lb_os_base_name(lb_str path); /* last component, trailing slashes ignored */
lb_str lb_os_dir_name(lb_str path);  /* "." where there is none */

u64 lb_os_disk_free(const char *dir); /* bytes; UINT64_MAX if unknown */
u64 lb_os_now_us(void);               /* monotonic */
/* The wall clock of the local time zone: microseconds since 1970 as if it were UTC. */
i64 lb_os_local_time_us(void);
u64 lb_os_peak_rss(void); /* bytes */
u64 lb_os_page_size(void);
/* A block of memory that was not used yet may lie in large pages; a hint. */
void lb_os_large_pages(void *ptr, u64 size_bytes);
/* A variable of the environment; NULL where it is unset or empty. `lbrx info` lists those read. */
const char *lb_os_env(const char *name);
u64 lb_os_max_open_files(void); /* of this process; 256 if unknown */
/* From the system; for hash seeds and names of partial files. */
void lb_os_random(void *out, size_t len);
/* To a terminal or log: what cannot be written is lost. */
void lb_os_write_text(int fd, lb_str text);
/* All of it, whatever signals come in between. */
lb_status lb_os_write_all(int fd, lb_str bytes, lb_err *err);
bool lb_os_is_terminal(int fd);
u32 lb_os_terminal_columns(int fd); /* 80 if unknown */

/* Page-aligned zero memory straight from the system, outside the heap; counted by the kernel as
 * data. */
void *lb_os_map_anon(u64 size_bytes); /* NULL when out of memory */
/* The first size_bytes of an open file, which are there, to be read. NULL when it cannot be. */
void *lb_os_map_file(int fd, u64 size_bytes);
/* The whole of a file without a name (lb_os_open_temp), which is made so long, to be written: its
 * pages are the file's and not the process's memory. NULL when it cannot be. */
void *lb_os_map_temp(int fd, u64 size_bytes);
void lb_os_unmap(void *ptr, u64 size_bytes);

#endif
