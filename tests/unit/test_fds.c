/* SPDX-License-Identifier: Apache-2.0 */
/* test_fds.c: descriptors: limit, reuse, identity, many threads. */
#include "test.h"
#include "base/os.h"
#include "base/thread.h"
#include "tensor/source.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { N_FILES = 40 };

/* N_FILES files that hold their number. */
static lb_source *open_source(void) {
    lb_err err = {0};
    lb_source *s = lb_source_new(LB_FORMAT_HF, "m");
    for (u32 i = 0; i < N_FILES; i++) {
        char path[400], name[20];
        int fd;
        u32 index;
        snprintf(name, sizeof name, "f%u", i);
        snprintf(path, sizeof path, "%s/%s", lb_test_dir(), name);
        if (lb_os_open_write(path, false, &fd, &err) != LB_OK ||
            lb_os_pwrite(fd, path, &i, sizeof i, 0, &err) != LB_OK ||
            lb_source_add_file(s, path, lb_str_c(name), &index, &err) != LB_OK)
            lb_test_fail(__FILE__, __LINE__, "%s", err.msg);
        lb_os_close(&fd);
    }
    return s;
}

static u64 n_open_descriptors(void) {
    u64 n = 0;
    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) != -1;
    return n;
}

LB_TEST(limit_and_reuse) {
    lb_err err = {0};
    lb_fds *f;
    int fd, first;
    lb_source *s = open_source();
    u64 base = n_open_descriptors();
    CHECK_OK(lb_fds_new(&f, s->files, s->n_files, 4, &err));
    CHECK_OK(lb_fds_get(f, 0, &first, &err)); /* borrowed all the time: never evicted */
    for (u64 i = 1; i < N_FILES; i++) {
        u32 v;
        CHECK_OK(lb_fds_get(f, i, &fd, &err));
        CHECK_OK(lb_os_pread(fd, "f", &v, sizeof v, 0, &err));
        CHECK_U64(v, i);
        lb_fds_put(f, i);
        CHECK(n_open_descriptors() <= base + 4);
    }
    CHECK_U64(n_open_descriptors(), base + 4);
    CHECK_OK(lb_fds_get(f, 0, &fd, &err));
    CHECK(fd == first);
    lb_fds_put(f, 0);
    lb_fds_put(f, 0);
    /* Idle: 37, 38, 39, 0 from the oldest. Using 37 again makes 38 the next to go. */
    int fd37;
    CHECK_OK(lb_fds_get(f, 37, &fd37, &err));
    lb_fds_put(f, 37);
    CHECK_OK(lb_fds_get(f, 5, &fd, &err));
    lb_fds_put(f, 5);
    CHECK_OK(lb_fds_get(f, 37, &fd, &err));
    CHECK(fd == fd37);
    lb_fds_put(f, 37);
    lb_fds_free(&f);
    CHECK(!f);
    lb_fds_free(&f);
    CHECK_U64(n_open_descriptors(), base);
    lb_source_close(&s);
}

LB_TEST(identity) {
    lb_err err = {0};
    lb_fds *f;
    int fd, w;
    u64 pos;
    lb_source *s = open_source();
    CHECK_OK(lb_fds_new(&f, s->files, s->n_files, 1, &err));
    /* Grown. */
    CHECK_OK(lb_os_open_write(s->files[1].path, false, &w, &err));
    CHECK_OK(lb_os_truncate(w, "f1", 100, &err));
    lb_os_close(&w);
    CHECK(lb_fds_get(f, 1, &fd, &err) == LB_E_IO && fd == -1);
    CHECK(lb_str_find(lb_str_c(err.msg), LB_STR("f1: the file was changed"), &pos));
    /* Replaced by one of the same size and time. */
    CHECK_OK(lb_os_rename(s->files[3].path, s->files[2].path, &err));
    CHECK(lb_fds_get(f, 2, &fd, &err) == LB_E_IO);
    CHECK(lb_fds_get(f, 3, &fd, &err) == LB_E_NOT_FOUND);
    /* Touched. */
    struct timespec t[2] = {{0, 0}, {0, 0}};
    CHECK(utimensat(AT_FDCWD, s->files[4].path, t, 0) == 0);
    CHECK(lb_fds_get(f, 4, &fd, &err) == LB_E_IO);
    /* A failed open gives its place back. */
    CHECK_OK(lb_fds_get(f, 5, &fd, &err));
    lb_fds_put(f, 5);
    lb_fds_free(&f);
    lb_source_close(&s);
}

typedef struct job {
    lb_fds *f;
    u64 seed, n_bad;
} job;

static void *hammer(void *arg) {
    job *j = arg;
    lb_err err = {0};
    for (int i = 0; i < 3000; i++) {
        int fd;
        u32 v = UINT32_MAX;
        j->seed = j->seed * 6364136223846793005u + 1442695040888963407u;
        u64 file = (j->seed >> 33) % N_FILES;
        if (lb_fds_get(j->f, file, &fd, &err) != LB_OK) {
            j->n_bad++;
            continue;
        }
        if (lb_os_pread(fd, "f", &v, sizeof v, 0, &err) != LB_OK || v != file)
            j->n_bad++;
        lb_fds_put(j->f, file);
    }
    return NULL;
}

/* Fewer places than threads: they wait for each other and all finish. */
LB_TEST(threads) {
    lb_err err = {0};
    lb_source *s = open_source();
    for (u32 max = 1; max <= 9; max += 4) {
        lb_fds *f;
        lb_thread t[6];
        job jobs[6];
        CHECK_OK(lb_fds_new(&f, s->files, s->n_files, max, &err));
        for (u64 i = 0; i < 6; i++) {
            jobs[i] = (job){f, lb_test_rand(), 0};
            CHECK_OK(lb_thread_start(&t[i], hammer, &jobs[i], &err));
        }
        for (int i = 0; i < 6; i++) {
            lb_thread_join(&t[i]);
            CHECK_U64(jobs[i].n_bad, 0);
        }
        lb_fds_free(&f);
    }
    lb_source_close(&s);
}

LB_TEST(out_of_memory) {
    lb_err err = {0};
    lb_fds *f;
    lb_source *s = open_source();
    for (u64 n = 1; n <= 2; n++) {
        lb_mem_fail_at(n);
        CHECK(lb_fds_new(&f, s->files, s->n_files, 4, &err) == LB_E_NOMEM && !f);
    }
    lb_mem_fail_at(0);
    CHECK_OK(lb_fds_new(&f, NULL, 0, 4, &err));
    lb_fds_free(&f);
    lb_source_close(&s);
}

LB_TEST_MAIN("fast")
