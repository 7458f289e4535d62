/* SPDX-License-Identifier: Apache-2.0 */
/* test_mapped.c: what becomes of a mapped file that is cut while it is read, and of faults that
 * have nothing to do with it; pages read ahead and given back. */
#include "test.h"
#include "base/mapped.h"
#include "base/os.h"
#include "base/thread.h"
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_PAGES 64u

static void make_file(char *path, size_t cap, const char *name) {
    lb_err err;
    int fd;
    u64 page = lb_os_page_size();
    snprintf(path, cap, "%s/%s", lb_test_dir(), name);
    u8 *bytes = malloc(page);
    memset(bytes, 7, page);
    CHECK_OK(lb_os_open_write(path, false, &fd, &err));
    for (u64 i = 0; i < N_PAGES; i++)
        CHECK_OK(lb_os_pwrite(fd, path, bytes, page, i * page, &err));
    CHECK_OK(lb_os_sync(fd, path, &err));
    lb_os_close(&fd);
    free(bytes);
}

static lb_status open_map(lb_mapped *m, const char *path, lb_err *err) {
    int fd;
    LB_TRY(lb_os_open_read(path, &fd, err));
    return lb_mapped_open(m, fd, path, N_PAGES * lb_os_page_size(), err);
}

static u8 touch(const lb_mapped *m, u64 page) {
    return *(const volatile u8 *)(m->base + page * lb_os_page_size());
}

/* In a child: what it prints, and how it ends. */
typedef struct ending {
    int status;
    char text[1024];
} ending;

static void run(void (*fn)(const char *path), const char *path, ending *e) {
    *e = (ending){0};
    int pipes[2];
    size_t n = 0;
    CHECK(pipe(pipes) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit none = {0, 0};
        (void)setrlimit(RLIMIT_CORE, &none);
        (void)dup2(pipes[1], STDERR_FILENO);
        fn(path);
        _exit(99);
    }
    close(pipes[1]);
    ssize_t got;
    while ((got = read(pipes[0], e->text + n, sizeof e->text - 1 - n)) > 0)
        n += (size_t)got;
    close(pipes[0]);
    CHECK(waitpid(pid, &e->status, 0) == pid);
}

static void cut(const char *path) {
    lb_mapped m;
    lb_err err;
    lb_mapped_install();
    lb_mapped_install();
    if (open_map(&m, path, &err) != LB_OK || touch(&m, N_PAGES - 1) != 7 ||
        truncate(path, 4096) != 0)
        _exit(98);
    char temp[600];
    snprintf(temp, sizeof temp, "%s.temp", path);
    lb_mapped_remove_at_fault(NULL, temp);
    (void)touch(&m, N_PAGES - 1);
}

LB_TEST(a_file_that_is_cut) {
    char path[600], want[1400], temp[640];
    lb_err err;
    int fd;
    make_file(path, sizeof path, "cut\n\x01.bin");
    snprintf(temp, sizeof temp, "%s.temp", path);
    CHECK_OK(lb_os_open_write(temp, false, &fd, &err));
    lb_os_close(&fd);
    ending e;
    run(cut, path, &e);
    CHECK(WIFEXITED(e.status) && WEXITSTATUS(e.status) == 1);
    snprintf(want, sizeof want,
             "lbrx: %s/cut\\x0a\\x01.bin: was cut to 4096 bytes while it was in use: it had %llu\n",
             lb_test_dir(), (unsigned long long)(N_PAGES * lb_os_page_size()));
    CHECK_STR(lb_str_c(e.text), want);
    CHECK(!lb_os_exists(temp));
    CHECK_OK(lb_os_unlink(path, &err));
}

static void *cut_thread(void *arg) {
    (void)touch(arg, N_PAGES - 1);
    return NULL;
}

static void cut_in_threads(const char *path) {
    lb_mapped m;
    lb_err err;
    lb_thread t[4];
    lb_mapped_install();
    if (open_map(&m, path, &err) != LB_OK || truncate(path, 0) != 0)
        _exit(98);
    for (int i = 0; i < 4; i++)
        if (lb_thread_start(&t[i], cut_thread, &m, &err) != LB_OK)
            _exit(97);
    for (int i = 0; i < 4; i++)
        lb_thread_join(&t[i]);
}

LB_TEST(told_once_by_threads) {
    char path[600];
    lb_err err;
    make_file(path, sizeof path, "threads.bin");
    ending e;
    run(cut_in_threads, path, &e);
    CHECK(WIFEXITED(e.status) && WEXITSTATUS(e.status) == 1);
    const char *end = strchr(e.text, '\n');
    CHECK(end && !end[1] && strncmp(e.text, "lbrx: ", 6) == 0);
    CHECK_OK(lb_os_unlink(path, &err));
}

static void closed(const char *path) {
    lb_mapped m;
    lb_err err;
    lb_mapped_install();
    if (open_map(&m, path, &err) != LB_OK)
        _exit(98);
    const volatile u8 *at = m.base;
    lb_mapped_close(&m);
    (void)*at;
}

static void other(const char *path) {
    (void)path;
    lb_mapped_install();
    volatile u8 *at = lb_os_map_anon(lb_os_page_size());
    lb_os_unmap((void *)(uintptr_t)at, lb_os_page_size());
    *at = 1;
}

static void sent(const char *path) {
    lb_mapped m;
    lb_err err;
    lb_mapped_install();
    if (open_map(&m, path, &err) != LB_OK)
        _exit(98);
    (void)raise(SIGBUS);
}

/* A bug of ours stays what it is: a signal, or what a sanitizer makes of it. */
LB_TEST(other_faults) {
    char path[600];
    lb_err err;
    make_file(path, sizeof path, "other.bin");
    void (*const fns[])(const char *) = {closed, other, sent};
    for (size_t i = 0; i < LB_LEN(fns); i++) {
        ending e;
        run(fns[i], path, &e);
        CHECK(WIFSIGNALED(e.status) || (WIFEXITED(e.status) && WEXITSTATUS(e.status) < 97));
        CHECK(strncmp(e.text, "lbrx: ", 6) != 0);
    }
    CHECK_OK(lb_os_unlink(path, &err));
}

LB_TEST(pages_come_and_go) {
    char path[600];
    lb_err err;
    lb_mapped m;
    u64 page = lb_os_page_size(), all = N_PAGES * page;
    make_file(path, sizeof path, "pages.bin");
    CHECK_OK(open_map(&m, path, &err));
    lb_mapped_fill(&m, 0, all);
    CHECK(lb_mapped_present(&m, 0, all) == all);
    CHECK_U64(lb_mapped_present(&m, 1, 1), 2); /* from the page on */
    lb_mapped_drop(&m, 1, all - 2);            /* inner pages: the first and the last stay */
    CHECK(touch(&m, 0) == 7 && touch(&m, N_PAGES - 1) == 7);
    u64 left = lb_mapped_present(&m, page, all - 2 * page);
    CHECK(left != UINT64_MAX);
    lb_mapped_ahead(&m, 0, all);
    lb_mapped_fill(&m, 3 * page + 5, 2 * page);
    for (u64 i = 0; i < N_PAGES; i++)
        CHECK(touch(&m, i) == 7);
    lb_mapped_ahead(&m, all, 1); /* outside: nothing */
    lb_mapped_fill(&m, all + page, page);
    lb_mapped_drop(&m, all, page);
    lb_mapped_drop(&m, 0, 0);
    lb_mapped_close(&m);
    CHECK(!m.base);
    lb_mapped_close(&m);
    CHECK_OK(lb_os_unlink(path, &err));
}

LB_TEST(not_mapped) {
    lb_mapped m;
    lb_err err;
    int fd;
    CHECK_OK(lb_os_open_read("/dev/null", &fd, &err));
    CHECK(lb_mapped_open(&m, fd, "null", 4096, &err) == LB_E_IO && strstr(err.msg, "null"));
    lb_mapped_close(&m);
}

LB_TEST_MAIN("fast")
