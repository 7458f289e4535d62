/* SPDX-License-Identifier: Apache-2.0 */
/* test_os.c: files, folders, paths and process facts, on a scratch folder. */
#include "test.h"
#include "base/os.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* "<scratch>/name"; four may be in use at a time. */
static const char *path_of(const char *name) {
    static char paths[4][600];
    static unsigned turn;
    char *p = paths[turn++ % 4];
    snprintf(p, sizeof paths[0], "%s/%s", lb_test_dir(), name);
    return p;
}

static bool says(const lb_err *err, const char *text) {
    size_t pos;
    return lb_str_find(lb_str_c(err->msg), lb_str_c(text), &pos);
}

static bool write_file(const char *path, const void *ptr, size_t len) {
    lb_err err = {0};
    int fd;
    lb_status st = lb_os_open_write(path, false, &fd, &err);
    if (st == LB_OK)
        st = lb_os_pwrite(fd, path, ptr, len, 0, &err);
    if (st == LB_OK)
        st = lb_os_truncate(fd, path, len, &err);
    lb_os_close(&fd);
    if (st != LB_OK)
        lb_test_fail(__FILE__, __LINE__, "%s", err.msg);
    return st == LB_OK;
}

LB_TEST(open_and_stat) {
    lb_err err = {0};
    lb_fstat a, b;
    int fd = 7;
    CHECK(lb_os_open_read(path_of("absent"), &fd, &err) == LB_E_NOT_FOUND && fd == -1);
    CHECK(says(&err, "absent: cannot be opened: No such file"));
    CHECK(lb_os_stat(path_of("absent"), &a, &err) == LB_E_NOT_FOUND);
    CHECK(lb_os_open_write(path_of("no/such/folder"), false, &fd, &err) == LB_E_IO && fd == -1);
    CHECK_OK(lb_os_open_write(path_of("f"), true, &fd, &err));
    CHECK_OK(lb_os_pwrite(fd, "f", "hello", 5, 0, &err));
    CHECK_OK(lb_os_fstat(fd, "f", &a, &err));
    CHECK_OK(lb_os_stat(path_of("f"), &b, &err));
    CHECK(memcmp(&a, &b, sizeof a) == 0 || (a.ino == b.ino && a.mtime_ns == b.mtime_ns));
    CHECK(a.size_bytes == 5 && a.is_file && !a.is_dir && a.mtime_ns > 0);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    lb_os_close(&fd);
    lb_os_close(&fd);
    CHECK(fd == -1);
    CHECK(lb_os_open_write(path_of("f"), true, &fd, &err) == LB_E_IO && says(&err, "exists"));
    CHECK_OK(lb_os_stat(lb_test_dir(), &a, &err));
    CHECK(a.is_dir && !a.is_file);
    CHECK(symlink("nowhere", path_of("dangling")) == 0);
    CHECK(lb_os_exists(path_of("dangling")) && !lb_os_exists(path_of("absent")));
    CHECK(lb_os_stat(path_of("dangling"), &a, &err) == LB_E_NOT_FOUND);
}

LB_TEST(read_and_write_at) {
    lb_err err = {0};
    int fd;
    u8 buf[64];
    CHECK_OK(lb_os_open_write(path_of("rw"), false, &fd, &err));
    CHECK_OK(lb_os_pwrite(fd, "rw", "0123456789", 10, 100, &err));
    CHECK_OK(lb_os_pread(fd, "rw", buf, 12, 98, &err));
    CHECK(memcmp(buf,
                 "\0\0"
                 "0123456789",
                 12) == 0);
    CHECK_OK(lb_os_pread(fd, "rw", buf, 0, 1000, &err));
    CHECK(lb_os_pread(fd, "rw", buf, 11, 100, &err) == LB_E_IO);
    CHECK(says(&err, "rw: file ends at byte 110, but byte 111 is needed") && err.off == 110);
    CHECK(lb_os_pread(fd, "rw", buf, 1, UINT64_MAX, &err) == LB_E_IO);
    CHECK(lb_os_pread(fd, "rw", buf, UINT64_MAX, 0, &err) == LB_E_IO);
    CHECK(lb_os_pwrite(fd, "rw", buf, 1, (u64)INT64_MAX, &err) == LB_E_IO);
    CHECK_OK(lb_os_truncate(fd, "rw", 103, &err));
    CHECK_OK(lb_os_pread(fd, "rw", buf, 3, 100, &err));
    CHECK(lb_os_pread(fd, "rw", buf, 4, 100, &err) == LB_E_IO);
    CHECK(lb_os_truncate(fd, "rw", UINT64_MAX, &err) == LB_E_IO);
    lb_os_readahead(fd, 0, 103);
    lb_os_readahead(fd, UINT64_MAX, 5);
    lb_os_writeback(fd, 0, 103);
    CHECK_OK(lb_os_sync(fd, "rw", &err));
    CHECK_OK(lb_os_sync_dir(lb_test_dir(), &err));
    lb_os_close(&fd);
    CHECK(lb_os_pread(-1, "rw", buf, 1, 0, &err) == LB_E_IO && says(&err, "reading failed"));
    CHECK(lb_os_pwrite(-1, "rw", buf, 1, 0, &err) == LB_E_IO && says(&err, "writing failed"));
}

LB_TEST(full_disk) {
    lb_err err = {0};
    int fd = open("/dev/full", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        lb_test_skip("no /dev/full");
        return;
    }
    CHECK(lb_os_pwrite(fd, "full", "x", 1, 0, &err) == LB_E_IO && says(&err, strerror(ENOSPC)));
    lb_os_close(&fd);
}

/* Pieces of random length, empty ones too, more of them than one call takes. */
LB_TEST(scatter) {
    enum { N = 20000, PIECES = 1500 };
    static u8 data[N], got[N];
    static lb_iov iov[PIECES];
    lb_err err = {0};
    int fd;
    for (size_t i = 0; i < N; i++)
        data[i] = (u8)lb_test_rand();
    CHECK(write_file(path_of("scatter"), data, N));
    CHECK_OK(lb_os_open_read(path_of("scatter"), &fd, &err));
    for (int round = 0; round < 50; round++) {
        u64 off = lb_test_rand_below(500), len = 0;
        size_t n = (size_t)lb_test_rand_below(PIECES + 1);
        memset(got, 0, sizeof got);
        for (size_t i = 0; i < n; i++) {
            iov[i] = (lb_iov){got + len, (size_t)lb_test_rand_below(i % 7 ? 14 : 3)};
            len += iov[i].len;
        }
        if (off + len > N)
            continue;
        CHECK_OK(lb_os_preadv(fd, "scatter", iov, n, off, &err));
        CHECK(memcmp(got, data + off, (size_t)len) == 0);
        for (size_t i = (size_t)len; i < N; i++)
            CHECK(got[i] == 0);
    }
    iov[0] = (lb_iov){got, 100};
    iov[1] = (lb_iov){got + 100, 100};
    CHECK(lb_os_preadv(fd, "scatter", iov, 2, N - 150, &err) == LB_E_IO && says(&err, "file ends"));
    CHECK(lb_os_preadv(fd, "scatter", iov, 2, UINT64_MAX - 5, &err) == LB_E_IO);
    lb_os_close(&fd);
}

/* The same the other way. */
LB_TEST(gather) {
    enum { N = 20000, PIECES = 1500 };
    static u8 data[N], got[N], want[N];
    static lb_iov iov[PIECES];
    lb_err err = {0};
    int fd;
    CHECK(write_file(path_of("gather"), want, N));
    CHECK_OK(lb_os_open_write(path_of("gather"), false, &fd, &err));
    for (int round = 0; round < 50; round++) {
        u64 off = lb_test_rand_below(500), len = 0;
        size_t n = (size_t)lb_test_rand_below(PIECES + 1);
        for (size_t i = 0; i < N; i++)
            data[i] = (u8)lb_test_rand();
        for (size_t i = 0; i < n; i++) {
            iov[i] = (lb_iov){data + len, (size_t)lb_test_rand_below(i % 7 ? 14 : 3)};
            len += iov[i].len;
        }
        if (off + len > N)
            continue;
        memcpy(want + off, data, (size_t)len);
        CHECK_OK(lb_os_pwritev(fd, "gather", iov, n, off, &err));
        CHECK_OK(lb_os_pread(fd, "gather", got, N, 0, &err));
        CHECK(memcmp(got, want, N) == 0);
    }
    iov[0] = (lb_iov){data, 100};
    CHECK(lb_os_pwritev(fd, "gather", iov, 1, (u64)INT64_MAX, &err) == LB_E_IO);
    lb_os_close(&fd);
    CHECK(lb_os_pwritev(-1, "gather", iov, 1, 0, &err) == LB_E_IO && says(&err, "writing failed"));
}

LB_TEST(rename_replaces_nothing) {
    lb_err err = {0};
    int fd = -1;
    CHECK_OK(lb_os_open_write(path_of("new"), false, &fd, &err));
    CHECK_OK(lb_os_pwrite(fd, path_of("new"), "new", 3, 0, &err));
    lb_os_close(&fd);
    CHECK_OK(lb_os_rename_new(path_of("new"), path_of("free"), &err));
    CHECK(!lb_os_exists(path_of("new")) && lb_os_exists(path_of("free")));
    CHECK_OK(lb_os_open_write(path_of("taken"), false, &fd, &err));
    lb_os_close(&fd);
    CHECK(lb_os_rename_new(path_of("free"), path_of("taken"), &err) == LB_E_USAGE);
    CHECK(strstr(err.msg, "taken") != NULL);
    CHECK(lb_os_exists(path_of("free")));
    CHECK_OK(lb_os_mkdir(path_of("dir-taken"), false, &err));
    CHECK_OK(lb_os_mkdir(path_of("dir-new"), false, &err));
    CHECK(lb_os_rename_new(path_of("dir-new"), path_of("dir-taken"), &err) == LB_E_USAGE);
    CHECK(lb_os_rename_new(path_of("absent"), path_of("x"), &err) == LB_E_IO);
}

LB_TEST(rename_and_exchange) {
    lb_err err = {0};
    lb_arena a = {0};
    lb_str s;
    CHECK(write_file(path_of("one"), "1", 1) && write_file(path_of("two"), "2", 1));
    lb_status st = lb_os_exchange(path_of("one"), path_of("two"), &err);
    if (st == LB_OK) {
        CHECK_OK(lb_os_read_file(path_of("one"), 10, &a, &s, &err));
        CHECK_STR(s, "2");
        CHECK_OK(lb_os_exchange(path_of("one"), path_of("two"), &err));
        CHECK(lb_os_exchange(path_of("one"), path_of("absent"), &err) == LB_E_IO);
    } else {
        CHECK(st == LB_E_UNSUPPORTED); /* some file systems */
    }
    CHECK_OK(lb_os_rename(path_of("one"), path_of("two"), &err));
    CHECK_OK(lb_os_read_file(path_of("two"), 10, &a, &s, &err));
    CHECK_STR(s, "1");
    CHECK(lb_os_rename(path_of("one"), path_of("two"), &err) == LB_E_IO);
    CHECK_OK(lb_os_unlink(path_of("two"), &err));
    CHECK_OK(lb_os_unlink(path_of("two"), &err));
    CHECK(lb_os_unlink(lb_test_dir(), &err) == LB_E_IO);
    lb_arena_deinit(&a);
}

LB_TEST(folders) {
    lb_err err = {0};
    CHECK_OK(lb_os_mkdir(path_of("d"), false, &err));
    CHECK(lb_os_mkdir(path_of("d"), false, &err) == LB_E_IO);
    CHECK_OK(lb_os_mkdir(path_of("d"), true, &err));
    CHECK(write_file(path_of("d/f"), "", 0));
    CHECK(lb_os_mkdir(path_of("d/f"), true, &err) == LB_E_IO);
    CHECK(lb_os_rmdir(path_of("d"), &err) == LB_E_IO && says(&err, "not empty"));
    CHECK_OK(lb_os_unlink(path_of("d/f"), &err));
    CHECK_OK(lb_os_rmdir(path_of("d"), &err));
    CHECK(lb_os_sync_dir(path_of("d"), &err) == LB_E_IO);
}

/* Links inside and at the top are removed, what they point to is left. */
LB_TEST(remove_tree) {
    lb_err err = {0};
    CHECK_OK(lb_os_mkdir(path_of("keep"), false, &err));
    CHECK(write_file(path_of("keep/f"), "x", 1));
    CHECK_OK(lb_os_mkdir(path_of("t"), false, &err));
    for (int i = 0; i < 300; i++) {
        char name[40];
        snprintf(name, sizeof name, "t/d%d", i);
        CHECK_OK(lb_os_mkdir(path_of(name), false, &err));
        snprintf(name, sizeof name, "t/d%d/f", i);
        CHECK(write_file(path_of(name), "", 0));
        snprintf(name, sizeof name, "t/.f%d", i);
        CHECK(write_file(path_of(name), "", 0));
    }
    CHECK(symlink("../keep", path_of("t/link")) == 0);
    CHECK(symlink("../../keep", path_of("t/d7/link")) == 0);
    CHECK(symlink("nowhere", path_of("t/d7/dangling")) == 0);
    CHECK(mkfifo(path_of("t/pipe"), 0600) == 0);
    CHECK(symlink("t", path_of("top")) == 0);
    CHECK_OK(lb_os_remove_tree(path_of("top"), &err)); /* a link: only itself */
    CHECK(!lb_os_exists(path_of("top")) && lb_os_exists(path_of("t/d7/f")));
    CHECK_OK(lb_os_remove_tree(path_of("t"), &err));
    CHECK(!lb_os_exists(path_of("t")) && lb_os_exists(path_of("keep/f")));
    CHECK_OK(lb_os_remove_tree(path_of("t"), &err));
    CHECK_OK(lb_os_remove_tree(path_of("keep/f"), &err));
    CHECK(!lb_os_exists(path_of("keep/f")));
    lb_mem_fail_at(1);
    CHECK(lb_os_remove_tree(path_of("keep"), &err) == LB_E_NOMEM);
    CHECK_OK(lb_os_remove_tree(path_of("keep"), &err));
}

LB_TEST(remove_tree_depth) {
    lb_err err = {0};
    char name[400] = "deep";
    for (int depth = 0; depth < 66; depth++) {
        CHECK_OK(lb_os_mkdir(path_of(name), false, &err));
        strcat(name, "/d");
    }
    CHECK(lb_os_remove_tree(path_of("deep"), &err) == LB_E_LIMIT && says(&err, "deeper than 64"));
    name[strlen("deep") + 2 * 64] = 0; /* folders 65 and 66 by hand */
    CHECK_OK(lb_os_remove_tree(path_of(name), &err));
    CHECK_OK(lb_os_remove_tree(path_of("deep"), &err));
    CHECK(!lb_os_exists(path_of("deep")));
}

LB_TEST(list) {
    static const char *const in_order[] = {".hidden", "A", "a", "a10", "a2", "b", "\xc3\xa9"};
    lb_err err = {0};
    lb_arena a = {0};
    lb_str *names;
    u64 n;
    CHECK_OK(lb_os_mkdir(path_of("l"), false, &err));
    CHECK_OK(lb_os_list(path_of("l"), &a, &names, &n, &err));
    CHECK_U64(n, 0);
    for (size_t i = LB_LEN(in_order); i-- > 0;) {
        char name[40];
        snprintf(name, sizeof name, "l/%s", in_order[i]);
        CHECK(write_file(path_of(name), "", 0));
    }
    CHECK_OK(lb_os_list(path_of("l"), &a, &names, &n, &err));
    CHECK_U64(n, LB_LEN(in_order));
    for (size_t i = 0; i < n; i++)
        CHECK_STR(names[i], in_order[i]);
    CHECK(lb_os_list(path_of("absent"), &a, &names, &n, &err) == LB_E_NOT_FOUND && n == 0);
    CHECK(lb_os_list(path_of("l/a"), &a, &names, &n, &err) == LB_E_IO);
    for (u64 k = 1;; k++) {
        lb_arena fresh = {0};
        u64 before = lb_mem_count();
        lb_mem_fail_at(k);
        lb_status st = lb_os_list(path_of("l"), &fresh, &names, &n, &err);
        lb_mem_fail_at(0);
        bool reached = lb_mem_count() - before >= k;
        lb_arena_deinit(&fresh);
        CHECK(st == (reached ? LB_E_NOMEM : LB_OK));
        if (!reached)
            break;
        CHECK(k < 100);
    }
    lb_arena_deinit(&a);
}

LB_TEST(read_file) {
    lb_err err = {0};
    lb_arena a = {0};
    lb_str s;
    static u8 big[10000];
    CHECK(write_file(path_of("r"), "text", 4) && write_file(path_of("empty"), "", 0));
    CHECK(write_file(path_of("big"), big, sizeof big));
    CHECK_OK(lb_os_read_file(path_of("r"), 4, &a, &s, &err));
    CHECK_STR(s, "text");
    CHECK(s.ptr[4] == 0);
    CHECK(lb_os_read_file(path_of("r"), 3, &a, &s, &err) == LB_E_LIMIT && !s.ptr);
    CHECK_OK(lb_os_read_file(path_of("empty"), 0, &a, &s, &err));
    CHECK(s.len == 0 && s.ptr && s.ptr[0] == 0);
    CHECK_OK(lb_os_read_file(path_of("big"), sizeof big, &a, &s, &err));
    CHECK_U64(s.len, sizeof big);
    CHECK(lb_os_read_file(path_of("absent"), 3, &a, &s, &err) == LB_E_NOT_FOUND);
    CHECK(lb_os_read_file(lb_test_dir(), 3, &a, &s, &err) == LB_E_IO && says(&err, "is a folder"));
    for (u64 k = 1; k <= 3; k++) {
        lb_arena fresh = {0};
        lb_mem_fail_at(k);
        lb_status st = lb_os_read_file(path_of("big"), sizeof big, &fresh, &s, &err);
        lb_mem_fail_at(0);
        CHECK(st == (k == 1 ? LB_E_NOMEM : LB_OK));
        lb_arena_deinit(&fresh);
    }
    lb_arena_deinit(&a);
}

/* A pipe has no size: it is read to its end, and the limit still holds. */
LB_TEST(read_pipe) {
    lb_err err = {0};
    lb_arena a = {0};
    static char text[9000];
    memset(text, 'p', sizeof text);
    CHECK(mkfifo(path_of("fifo"), 0600) == 0);
    for (int over = 0; over < 2; over++) {
        const char *path = path_of("fifo");
        lb_str s;
        pid_t pid = fork();
        if (pid == 0) {
            int fd = open(path, O_WRONLY);
            for (size_t at = 0; at < sizeof text;) {
                ssize_t n = write(fd, text + at, LB_MIN(sizeof text - at, (size_t)700));
                if (n <= 0)
                    break;
                at += (size_t)n;
            }
            _exit(0);
        }
        CHECK(pid > 0);
        lb_status st = lb_os_read_file(path, sizeof text - (size_t)over, &a, &s, &err);
        CHECK(waitpid(pid, NULL, 0) == pid);
        if (over) {
            CHECK(st == LB_E_LIMIT);
        } else {
            CHECK_OK(st);
            CHECK(s.len == sizeof text && memcmp(s.ptr, text, s.len) == 0);
        }
    }
    lb_arena_deinit(&a);
}

LB_TEST(locks) {
    lb_err err = {0};
    int a, b;
    CHECK_OK(lb_os_open_write(path_of("lock"), false, &a, &err));
    CHECK_OK(lb_os_open_write(path_of("lock"), false, &b, &err));
    CHECK_OK(lb_os_lock(a, "lock", &err));
    CHECK_OK(lb_os_lock(a, "lock", &err));
    CHECK(lb_os_lock(b, "lock", &err) == LB_E_LIMIT && says(&err, "another process"));
    lb_os_close(&a);
    CHECK_OK(lb_os_lock(b, "lock", &err));
    lb_os_close(&b);
    CHECK(lb_os_lock(-1, "lock", &err) == LB_E_IO);
}

LB_TEST(path_parts) {
    static const char *const cases[][3] = {
        {"a/b", "b", "a"},        {"a", "a", "."},         {"/a", "a", "/"}, {"/", "/", "/"},
        {"a/b/", "b", "a"},       {"a//b//", "b", "a"},    {"//", "/", "/"}, {".", ".", "."},
        {"../x", "x", ".."},      {"/a/b/c", "c", "/a/b"}, {"a/", "a", "."}, {"", "", "."},
        {"dir.x/", "dir.x", "."},
    };
    lb_arena a = {0};
    for (size_t i = 0; i < LB_LEN(cases); i++) {
        CHECK_STR(lb_os_base_name(lb_str_c(cases[i][0])), cases[i][1]);
        CHECK_STR(lb_os_dir_name(lb_str_c(cases[i][0])), cases[i][2]);
    }
    CHECK_STR(lb_str_c(lb_os_join(&a, "d", LB_STR("n"))), "d/n");
    CHECK_STR(lb_str_c(lb_os_join(&a, "d/", LB_STR("n"))), "d/n");
    CHECK_STR(lb_str_c(lb_os_join(&a, "/", LB_STR("n"))), "/n");
    lb_arena_deinit(&a);
}

LB_TEST(process_facts) {
    u64 t = lb_os_now_us(), page = lb_os_page_size(), before = lb_os_peak_rss();
    CHECK(page >= 4096 && (page & (page - 1)) == 0);
    CHECK(before > 100 * LB_KIB && before < 64 * LB_GIB);
    u8 *p = lb_os_map_anon(64 * LB_MIB);
    CHECK(p && (uintptr_t)p % page == 0);
    for (u64 i = 0; i < 64 * LB_MIB; i += page) {
        CHECK(p[i] == 0);
        p[i] = 1;
    }
    CHECK(lb_os_peak_rss() >= 60 * LB_MIB);
    lb_os_unmap(p, 64 * LB_MIB);
    lb_os_unmap(NULL, 5);
    CHECK(!lb_os_map_anon(0) && !lb_os_map_anon(UINT64_MAX));
    CHECK(lb_os_now_us() >= t);
    CHECK(lb_os_disk_free(lb_test_dir()) > 0);
    CHECK_U64(lb_os_disk_free("/nonexistent"), UINT64_MAX);
    CHECK(lb_os_max_open_files() >= 3);
    u8 x[600] = {0}, y[600] = {0}; /* longer than one request */
    lb_os_random(x, sizeof x);
    lb_os_random(y, sizeof y);
    CHECK(memcmp(x, y, 300) != 0 && memcmp(x + 300, y + 300, 300) != 0);
    int fd[2];
    CHECK(pipe(fd) == 0);
    CHECK(!lb_os_is_terminal(fd[0]) && lb_os_terminal_columns(fd[0]) == 80);
    lb_os_write_text(fd[1], LB_STR("abc"));
    CHECK(read(fd[0], x, sizeof x) == 3 && memcmp(x, "abc", 3) == 0);
    close(fd[0]);
    close(fd[1]);
    lb_os_write_text(-1, LB_STR("lost"));
}

LB_TEST_MAIN("fast")
