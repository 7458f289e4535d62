/* SPDX-License-Identifier: Apache-2.0 */
/* test_fault_io.c: calls of the system that fail, stop short or are interrupted, at every place of
 * a run: an error that names the file and leaves what --resume needs; never a half output. */
#include "fault_kit.h"
#include "test.h"
#include "base/os.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static bool ready(void) {
    if (!seam_available()) {
        lb_test_skip("not linked with --wrap here");
        return false;
    }
    return fk_sources();
}

static bool undisturbed(const fk_scene *s, u32 kinds, u64 *n_calls) {
    if (!fk_reset(s, "old") || !fk_reset(s, "want"))
        return false;
    fk_end e = fk_run(s, "want", false, &(seam){.kinds = kinds});
    *n_calls = e.seam_count;
    return !e.killed && e.status == LB_OK;
}

static bool bad(const fk_scene *s, u64 n, const fk_end *e, const char *what) {
    lb_test_fail(__FILE__, __LINE__, "%s, call %llu fails: %s: %s (%s)", s->name,
                 (unsigned long long)n, what, lb_status_text(e->status), e->msg);
    return false;
}

/* Runs in which the call came, and of them those that failed. */
typedef struct tries {
    u64 n, n_failed;
} tries;

/* One call fails, or all from there on. Then the disk is well again and the run is resumed. */
static bool fail_at(const fk_scene *s, const seam *sm, tries *t) {
    if (!fk_reset(s, "got"))
        return false;
    fk_end e = fk_run(s, "got", false, sm);
    if (e.killed)
        return bad(s, sm->at, &e, "died");
    t->n += e.seam_count >= sm->at;
    if (e.status == LB_OK) /* it was only a hint, or a closed input */
        return fk_same("got", "want") || bad(s, sm->at, &e, "passed over, other bytes");
    t->n_failed++;
    if (e.status != LB_E_IO)
        return bad(s, sm->at, &e, "not a failure of the system");
    if (!strstr(e.msg, lb_test_dir()) || !strstr(e.msg, strerror(sm->error)))
        return bad(s, sm->at, &e, "names no file or no reason");
    if (!fk_nothing_half(s, "got", "want", "old"))
        return bad(s, sm->at, &e, "half an output");
    e = fk_run(s, "got", true, NULL);
    if (e.killed || e.status != LB_OK)
        return bad(s, sm->at, &e, "cannot be resumed");
    return fk_same("got", "want") || bad(s, sm->at, &e, "resumed, other bytes");
}

/* least: percent of the tries that must fail; not all do: there are hints and calls of closed
 * inputs. With threads there may be fewer calls than were counted before. */
static void each_call(u32 kinds, int error, bool forever, u64 least) {
    bool all = getenv("LB_TEST_LONG") != NULL;
    if (!ready())
        return;
    for (u32 i = 0; i < fk_n_scenes; i++) {
        const fk_scene *s = &fk_scenes[i];
        u64 n_calls, n_runs = 0;
        tries t = {0};
        CHECK(undisturbed(s, kinds, &n_calls));
        u64 step = all ? 1 : n_calls < 40 ? 1 : 3;
        if (lb_kit_slow())
            step *= 5;
        for (u64 n = 1; n <= n_calls; n += 1 + lb_test_rand_below(step), n_runs++) {
            seam sm = {
                .kinds = kinds, .at = n, .error = error, .forever = forever, .torn = n % 2 == 0};
            CHECK(fail_at(s, &sm, &t));
        }
        fprintf(stderr, "%s: %llu calls, %llu tried, %llu runs failed\n", s->name,
                (unsigned long long)n_calls, (unsigned long long)t.n,
                (unsigned long long)t.n_failed);
        CHECK(t.n * 2 > n_runs);
        CHECK(t.n_failed * 100 >= t.n * (lb_kit_slow() ? 0 : least));
    }
}

LB_TEST(disk_full) {
    each_call(SEAM_WRITE, ENOSPC, true, 90);
}
LB_TEST(one_write_fails) {
    each_call(SEAM_WRITE | SEAM_TRUNCATE, EIO, false, 90);
}
LB_TEST(sync_fails) {
    each_call(SEAM_SYNC, EIO, false, 90);
}
LB_TEST(names_fail) {
    each_call(SEAM_RENAME | SEAM_REMOVE | SEAM_MAKE, EACCES, false, 50);
}
LB_TEST(names_fail_for_good) {
    each_call(SEAM_RENAME | SEAM_REMOVE, EROFS, true, 50);
}
LB_TEST(reads_fail) {
    each_call(SEAM_READ, EIO, false, 90);
}
LB_TEST(opens_fail) {
    each_call(SEAM_OPEN, EMFILE, false, 50);
}
LB_TEST(closes_fail) {
    each_call(SEAM_CLOSE, EDQUOT, false, 10);
}

/* Transfers of a few bytes, every third interrupted. */
LB_TEST(short_transfers) {
    if (!ready())
        return;
    for (u32 i = 0; i < fk_n_scenes; i++) {
        const fk_scene *s = &fk_scenes[i];
        u64 n_calls;
        CHECK(undisturbed(s, SEAM_CHANGE, &n_calls));
        CHECK(fk_reset(s, "got"));
        fk_end e = fk_run(s, "got", false, &(seam){.short_io = true});
        if (e.killed || e.status != LB_OK)
            lb_test_fail(__FILE__, __LINE__, "%s: %s", s->name, e.msg);
        CHECK(fk_same("got", "want"));
        /* and while what was kept is read */
        CHECK(fk_reset(s, "got"));
        CHECK(fk_run(s, "got", false, &(seam){.kinds = SEAM_WRITE, .at = n_calls / 3, .kill = true})
                  .killed);
        e = fk_run(s, "got", true, &(seam){.short_io = true});
        CHECK(!e.killed && e.status == LB_OK && e.kept_jobs + e.kept_parts > 0);
        CHECK(fk_same("got", "want"));
    }
}

/* After a failed sync the memory may hold what the disk does not: noted, for the next run. */
LB_TEST(failed_sync_is_noted) {
    lb_arena arena = {0};
    lb_err err = {0};
    lb_str text;
    size_t at;
    if (!ready())
        return;
    const fk_scene *s = &fk_scenes[0];
    u64 n_calls, n_noted = 0;
    CHECK(undisturbed(s, SEAM_SYNC, &n_calls));
    for (u64 n = 1; n <= n_calls; n++) {
        CHECK(fk_reset(s, "got"));
        fk_end e = fk_run(s, "got", false, &(seam){.kinds = SEAM_SYNC, .at = n, .error = EIO});
        CHECK(e.status == LB_E_IO);
        const char *left = fk_beside(s, "got", ".lbrx-journal");
        if (!strstr(e.msg, "out.gguf.lbrx-partial:") || !lb_os_exists(left))
            continue; /* a folder, the journal, the sums; or nothing was done yet */
        CHECK_OK(lb_os_read_file(left, LB_MIB, &arena, &text, &err));
        CHECK(lb_str_find(text, LB_STR("\nunsynced "), &at));
        n_noted++;
    }
    CHECK(n_noted >= 3);
    lb_arena_deinit(&arena);
}

/* ---- inputs that go away or change after the plan was made ---- */

enum { GONE, SHORT, FOLDER, OTHER, FORBIDDEN, TOUCHED, N_CHANGES };
static u32 change;
static bool changed; /* in the child */

static bool change_input(void *user) {
    lb_err err = {0};
    int fd = -1;
    const char *in = fk_path("", "in-1.bin");
    (void)user;
    if (changed)
        return false;
    changed = true;
    if (change == GONE || change == FOLDER || change == OTHER)
        (void)rename(in, fk_path("", "in-1.away"));
    if (change == SHORT)
        (void)!truncate(in, 3000);
    if (change == FOLDER)
        (void)lb_os_mkdir(in, false, &err);
    if (change == FORBIDDEN)
        (void)chmod(in, 0);
    if (change == OTHER || change == TOUCHED) {
        (void)lb_os_open_write(in, false, &fd, &err);
        (void)lb_os_truncate(fd, in, 20000, &err);
        (void)lb_os_pwrite(fd, in, "x", 1, 19999, &err);
        lb_os_close(&fd);
    }
    return false;
}

LB_TEST(inputs_change_under_the_run) {
    lb_err err = {0};
    if (!ready())
        return;
    bool root = geteuid() == 0;
    for (u32 i = 0; i < N_CHANGES; i++) {
        fk_scene s = fk_scenes[i % 2 ? 1 : 0];
        const char *in = fk_path("", "in-1.bin"), *away = fk_path("", "in-1.away");
        s.stop = change_input;
        change = i;
        CHECK(fk_sources());
        CHECK(fk_reset(&s, "got"));
        if (i == FORBIDDEN && root) { /* the change is root's, the run is nobody's */
            s.stop = NULL;
            s.uid = 65534;
            CHECK(chmod(in, 0) == 0 && chmod(lb_test_dir(), 0755) == 0);
            CHECK(chmod(fk_path("got", ""), 0777) == 0);
        }
        fk_end e = fk_run(&s, "got", false, NULL);
        if (lb_os_exists(away)) {
            CHECK_OK(lb_os_remove_tree(in, &err));
            CHECK_OK(lb_os_rename(away, in, &err));
        }
        CHECK(chmod(in, 0644) == 0);
        bool missing = i == GONE && e.status == LB_E_NOT_FOUND;
        if (e.killed || (e.status != LB_E_IO && !missing) || !strstr(e.msg, "in-1.bin"))
            lb_test_fail(__FILE__, __LINE__, "change %u: %s (%s)", i, lb_status_text(e.status),
                         e.msg);
        CHECK(!lb_os_exists(fk_output(&s, "got")));
    }
    /* and between an interruption and --resume */
    const fk_scene *s = &fk_scenes[0];
    CHECK(fk_sources());
    CHECK(fk_reset(s, "got"));
    CHECK(fk_run(s, "got", false, &(seam){.kinds = SEAM_RENAME, .at = 1, .kill = true}).killed);
    change = TOUCHED;
    changed = false;
    (void)change_input(NULL);
    fk_end e = fk_run(s, "got", true, NULL);
    CHECK(e.status == LB_E_FORMAT && strstr(e.msg, "other inputs") != NULL);
    CHECK(!lb_os_exists(fk_output(s, "got")));
}

LB_TEST_MAIN("slow")
