/* SPDX-License-Identifier: Apache-2.0 */
/* test_fault_kill.c: a run that is killed at the n-th change of the disk, for every n, and again
 * while it is resumed: never a half output under the final name, and in the end the bytes of an
 * undisturbed run, with nothing left beside them. */
#include "fault_kit.h"
#include "test.h"
#include "base/os.h"
#include <stdlib.h>

static u64 n_killed, n_kept_jobs, n_kept_parts;

static bool undisturbed(const fk_scene *s, u64 *n_calls) {
    fk_end e;
    if (!fk_reset(s, "old") || !fk_reset(s, "want"))
        return false;
    e = fk_run(s, "want", false, NULL);
    *n_calls = e.seam_count;
    if (e.status != LB_OK || e.killed)
        lb_test_fail(__FILE__, __LINE__, "%s, undisturbed: %s", s->name, e.msg);
    return e.status == LB_OK && !e.killed;
}

static bool check_left(const fk_scene *s, u64 n, const char *when) {
    bool ok = fk_nothing_half(s, "got", "want", "old");
    if (!ok)
        lb_test_fail(__FILE__, __LINE__, "%s, killed at %llu: half an output %s", s->name,
                     (unsigned long long)n, when);
    return ok;
}

/* Killed at change n, then `again` times while resuming, then resumed to the end. */
static bool kill_at(const fk_scene *s, u64 n, bool torn, u32 again) {
    if (!fk_reset(s, "got"))
        return false;
    seam sm = {.kinds = SEAM_CHANGE, .at = n, .kill = true, .torn = torn};
    fk_end e = fk_run(s, "got", false, &sm);
    n_killed += e.killed;
    if (!check_left(s, n, "after the first run"))
        return false;
    for (u32 i = 0; i < again && e.killed; i++) {
        sm.at = 1 + lb_test_rand_below(n);
        sm.torn = lb_test_rand_below(2);
        e = fk_run(s, "got", true, &sm);
        n_killed += e.killed;
        if (!check_left(s, n, "after a resumed run"))
            return false;
    }
    if (e.killed)
        e = fk_run(s, "got", true, NULL);
    n_kept_jobs += e.kept_jobs;
    n_kept_parts += e.kept_parts;
    if (e.killed || e.status != LB_OK)
        lb_test_fail(__FILE__, __LINE__, "%s, killed at %llu and %u times more: %s", s->name,
                     (unsigned long long)n, again, e.msg);
    else if (!fk_same("got", "want"))
        lb_test_fail(__FILE__, __LINE__, "%s, killed at %llu and %u times more: other bytes",
                     s->name, (unsigned long long)n, again);
    else
        return true;
    return false;
}

/* Every one; where a run is slow (sanitizers, emulators) one of five. */
static u64 step(void) {
    return lb_kit_slow() ? 1 + lb_test_rand_below(9) : 1;
}

static void each_change(const char *name) {
    bool all = getenv("LB_TEST_LONG") != NULL;
    u64 n_calls;
    if (!seam_available()) {
        lb_test_skip("not linked with --wrap here");
        return;
    }
    CHECK(fk_sources());
    for (u32 i = 0; i < fk_n_scenes; i++) {
        const fk_scene *s = &fk_scenes[i];
        if (strcmp(s->name, name) != 0)
            continue;
        CHECK(undisturbed(s, &n_calls));
        CHECK(n_calls > 30);
        n_killed = n_kept_jobs = n_kept_parts = 0;
        for (u64 n = 1; n <= n_calls; n += step()) {
            CHECK(kill_at(s, n, lb_test_rand_below(2), n % 3 == 0 ? 1 + (u32)(n % 2) : 0));
            for (u32 k = 0; k < 6 && all; k++)
                CHECK(kill_at(s, n, k % 2 != 0, k));
        }
        fprintf(stderr, "%s: %llu changes; killed %llu times; %llu jobs and %llu parts kept\n",
                s->name, (unsigned long long)n_calls, (unsigned long long)n_killed,
                (unsigned long long)n_kept_jobs, (unsigned long long)n_kept_parts);
        CHECK(n_killed * (lb_kit_slow() ? 8 : 1) >= n_calls);
        CHECK(n_kept_jobs > 0 && n_kept_parts > 0);
    }
}

/* Started anew, without --resume, over what an interrupted run has left; and killed in that. */
LB_TEST(anew_over_a_partial) {
    u64 n_calls;
    if (!seam_available()) {
        lb_test_skip("not linked with --wrap here");
        return;
    }
    CHECK(fk_sources());
    for (u32 i = 0; i < fk_n_scenes; i++) {
        const fk_scene *s = &fk_scenes[i];
        if (strcmp(s->name, "file") != 0 && strcmp(s->name, "folder-force") != 0)
            continue;
        CHECK(undisturbed(s, &n_calls));
        for (u64 n = 1; n <= n_calls / 2; n += step()) {
            seam sm = {.kinds = SEAM_CHANGE, .at = n_calls / 2, .kill = true};
            CHECK(fk_reset(s, "got"));
            CHECK(fk_run(s, "got", false, &sm).killed);
            sm.at = n;
            CHECK(fk_run(s, "got", false, &sm).killed);
            CHECK(check_left(s, n, "after a second run"));
            fk_end e = fk_run(s, "got", true, NULL);
            CHECK(!e.killed && e.status == LB_OK);
            CHECK(fk_same("got", "want"));
        }
    }
}

/* Between the two renames of a system that cannot exchange, the old output stands aside; the next
 * start, whatever it is for, puts it back. */
LB_TEST(aside_is_put_back) {
    u64 n_calls, n_seen = 0;
    if (!seam_available()) {
        lb_test_skip("not linked with --wrap here");
        return;
    }
    CHECK(fk_sources());
    const fk_scene *s = &fk_scenes[5];
    CHECK(strcmp(s->name, "folder-aside") == 0);
    fk_scene timid = *s;
    timid.force = false;
    CHECK(undisturbed(s, &n_calls));
    for (u64 n = 1; n <= n_calls; n++) {
        seam sm = {.kinds = SEAM_CHANGE, .at = n, .kill = true};
        CHECK(fk_reset(s, "got"));
        CHECK(fk_run(s, "got", false, &sm).killed);
        if (lb_os_exists(fk_output(s, "got")))
            continue;
        n_seen++;
        CHECK(lb_os_exists(fk_beside(s, "got", ".lbrx-old")));
        CHECK(!fk_run(&timid, "got", false, NULL).killed); /* may say: it exists */
        CHECK(fk_nothing_half(s, "got", "want", "old"));
        CHECK(lb_os_exists(fk_output(s, "got")));
    }
    CHECK_U64(n_seen, 1);
}

LB_TEST(file) {
    each_change("file");
    each_change("file-threads");
}
LB_TEST(file_force) {
    each_change("file-force");
}
LB_TEST(folder) {
    each_change("folder");
}
LB_TEST(folder_force) {
    each_change("folder-force");
}
LB_TEST(folder_aside) {
    each_change("folder-aside");
}
LB_TEST(split) {
    each_change("split");
}
LB_TEST(split_force) {
    each_change("split-force");
}

LB_TEST_MAIN("slow")
