/* SPDX-License-Identifier: Apache-2.0 */
/* test_fault_state.c: what a run may find on the disk: partials and journals that are damaged,
 * torn, of another plan or no files at all, links, locks, folders that cannot be written. Good
 * bytes or an error by name, and nobody else's file is touched. */
#include "fault_kit.h"
#include "test.h"
#include "base/os.h"
#include <stdio.h>
#include <stdlib.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const fk_scene *const file = &fk_scenes[0], *const folder = &fk_scenes[3];

static bool undisturbed(const fk_scene *s) {
    if (!seam_available()) {
        lb_test_skip("not linked with --wrap here");
        return false;
    }
    if (!fk_sources() || !fk_reset(s, "want") || !fk_reset(s, "old"))
        return false;
    fk_end e = fk_run(s, "want", false, NULL);
    return !e.killed && e.status == LB_OK;
}

/* A run that was killed when `kinds` were called n times. */
static bool interrupted(const fk_scene *s, u32 kinds, u64 n) {
    return fk_reset(s, "got") &&
           fk_run(s, "got", false, &(seam){.kinds = kinds, .at = n, .kill = true}).killed;
}

/* All jobs are done, nothing is renamed. */
static bool nearly_done(const fk_scene *s) {
    return interrupted(s, SEAM_RENAME, 1);
}

static bool resumes(const fk_scene *s, fk_end *out) {
    fk_end e = fk_run(s, "got", true, NULL);
    if (out)
        *out = e;
    if (e.killed || e.status != LB_OK)
        lb_test_fail(__FILE__, __LINE__, "%s: %s", s->name, e.msg);
    else if (!fk_same("got", "want"))
        lb_test_fail(__FILE__, __LINE__, "%s: other bytes", s->name);
    else
        return true;
    return false;
}

static bool read_all(const char *path, lb_arena *a, lb_str *text) {
    lb_err err = {0};
    return lb_os_read_file(path, 16 * LB_MIB, a, text, &err) == LB_OK;
}

static bool write_all(const char *path, lb_str text) {
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(text.ptr, 1, text.len, f) == text.len;
    return f && fclose(f) == 0 && ok;
}

static bool is_text(const char *path, const char *text) {
    lb_arena a = {0};
    lb_str s;
    bool same = read_all(path, &a, &s) && lb_str_eq_c(s, text);
    lb_arena_deinit(&a);
    return same;
}

/* ---- the partial ---- */

static bool overwrite(const char *path, u64 off, u64 len, bool zeros) {
    u8 buf[512];
    lb_err err = {0};
    int fd = -1;
    bool ok = lb_os_open_write(path, false, &fd, &err) == LB_OK &&
              lb_os_pread(fd, path, buf, len, off, &err) == LB_OK;
    for (u64 i = 0; i < len; i++)
        buf[i] = zeros ? 0 : (u8)(buf[i] ^ 0x10);
    ok = ok && lb_os_pwrite(fd, path, buf, len, off, &err) == LB_OK;
    lb_os_close(&fd);
    return ok;
}

/* The machine lost its power: the journal says done, some of the data never came to the disk. */
LB_TEST(lost_data) {
    u64 n_all = 0, n_less = 0, n_parts = 0;
    fk_end e;
    if (!undisturbed(file))
        return;
    CHECK(nearly_done(file));
    CHECK(resumes(file, &e));
    n_all = e.kept_jobs;
    CHECK(n_all >= 4);
    u32 tries = getenv("LB_TEST_LONG") ? 1000 : 60;
    for (u32 i = 0; i < tries; i++) {
        lb_fstat st;
        lb_err err = {0};
        CHECK(nearly_done(file));
        const char *path = fk_beside(file, "got", ".lbrx-partial");
        CHECK_OK(lb_os_stat(path, &st, &err));
        u64 len = 1 + lb_test_rand_below(500);
        CHECK(overwrite(path, lb_test_rand_below(st.size_bytes - len), len, i % 2 != 0));
        CHECK(resumes(file, &e));
        n_less += e.kept_jobs < n_all;
        n_parts += e.kept_parts;
    }
    CHECK(n_less * 2 > tries); /* what was hit is seen */
    CHECK(n_parts > tries / 8);
}

LB_TEST(other_partials) {
    lb_err err = {0};
    fk_end e;
    if (!undisturbed(file))
        return;
    for (u32 i = 0; i < 5; i++) {
        CHECK(nearly_done(file));
        const char *path = fk_beside(file, "got", ".lbrx-partial");
        switch (i) {
        case 0:
            CHECK(unlink(path) == 0);
            break;
        case 1:
            CHECK(truncate(path, 0) == 0);
            break;
        case 2:
            CHECK(truncate(path, 9000) == 0);
            break;
        case 3:
            CHECK(truncate(path, 1000000) == 0);
            break;
        default:
            CHECK(unlink(path) == 0);
            CHECK_OK(lb_os_mkdir(path, false, &err));
        }
        CHECK(resumes(file, &e));
        CHECK(i == 3 ? e.kept_jobs >= 4 : e.kept_jobs < 4);
    }
}

/* What lies in the folder beside the planned files does not come into the output. */
LB_TEST(strangers_in_a_partial) {
    lb_err err = {0};
    if (!undisturbed(folder))
        return;
    CHECK(nearly_done(folder));
    CHECK(write_all(fk_path("got", "out.lbrx-partial/model.safetensors"), LB_STR("other")));
    CHECK_OK(lb_os_mkdir(fk_path("got", "out.lbrx-partial/x"), false, &err));
    CHECK(write_all(fk_path("got", "out.lbrx-partial/x/y"), LB_STR("other")));
    CHECK(write_all(fk_path("got", "victim"), LB_STR("mine")));
    const char *part = fk_path("got", "out.lbrx-partial/out-00002-of-00003.gguf");
    CHECK(unlink(part) == 0);
    CHECK(symlink(fk_path("got", "victim"), part) == 0);
    CHECK(symlink(fk_path("got", "victim"), fk_path("got", "out.lbrx-partial/big.txt.x")) == 0);
    fk_end e = fk_run(folder, "got", true, NULL);
    CHECK(e.status == LB_OK && e.kept_jobs > 0);
    CHECK(is_text(fk_path("got", "victim"), "mine"));
    CHECK(unlink(fk_path("got", "victim")) == 0);
    CHECK(fk_same("got", "want"));
}

/* ---- links under our own names ---- */

LB_TEST(links) {
    lb_err err = {0};
    if (!undisturbed(file))
        return;
    static const char *const ends[] = {".lbrx-partial", ".lbrx-journal", ".sha256",
                                       ".sha256.lbrx-partial"};
    for (u32 i = 0; i < 2 * LB_LEN(ends); i++) {
        bool resume = i % 2 != 0;
        CHECK(nearly_done(file));
        const char *victim = fk_path("got", "victim");
        const char *link = fk_beside(file, "got", ends[i / 2]);
        CHECK(write_all(victim, LB_STR("mine")));
        (void)unlink(link);
        CHECK(symlink(victim, link) == 0);
        fk_end e = fk_run(file, "got", resume, NULL);
        CHECK(!e.killed);
        CHECK(e.status == LB_OK || e.status == LB_E_IO || e.status == LB_E_USAGE);
        CHECK(is_text(victim, "mine"));
    }
    /* a folder elsewhere, by a link under the partial's name */
    CHECK(undisturbed(folder));
    CHECK(nearly_done(folder));
    const char *elsewhere = fk_path("got", "elsewhere"), *mine = fk_path("got", "elsewhere/mine");
    CHECK_OK(lb_os_rename(fk_beside(folder, "got", ".lbrx-partial"), elsewhere, &err));
    CHECK(write_all(mine, LB_STR("mine")));
    CHECK(symlink(elsewhere, fk_beside(folder, "got", ".lbrx-partial")) == 0);
    fk_end e = fk_run(folder, "got", true, NULL);
    CHECK(e.status == LB_OK && e.kept_jobs == 0);
    CHECK(is_text(mine, "mine"));
    CHECK_OK(lb_os_remove_tree(elsewhere, &err));
    CHECK(fk_same("got", "want"));
}

/* ---- the journal ---- */

LB_TEST(torn_journals) {
    lb_arena a = {0};
    lb_str text;
    if (!undisturbed(file))
        return;
    CHECK(nearly_done(file));
    CHECK(read_all(fk_beside(file, "got", ".lbrx-journal"), &a, &text));
    u64 step = getenv("LB_TEST_LONG") ? 1 : 29;
    for (u64 len = 0; len <= text.len; len += step) {
        CHECK(nearly_done(file));
        CHECK(truncate(fk_beside(file, "got", ".lbrx-journal"), (off_t)len) == 0);
        CHECK(resumes(file, NULL));
    }
    for (u64 i = 0; i < 2000 / step; i++) {
        char *copy = lb_alloc(text.len);
        CHECK(copy != NULL && nearly_done(file));
        memcpy(copy, text.ptr, text.len);
        u64 at = lb_test_rand_below(text.len);
        copy[at] = (char)(copy[at] ^ 1 << lb_test_rand_below(8));
        CHECK(write_all(fk_beside(file, "got", ".lbrx-journal"), (lb_str){copy, text.len}));
        lb_free(copy);
        CHECK(resumes(file, NULL));
    }
    lb_arena_deinit(&a);
}

LB_TEST(garbage_for_a_journal) {
    static char noise[200000];
    if (!undisturbed(file))
        return;
    for (u32 i = 0; i < 4; i++) {
        CHECK(nearly_done(file));
        for (u64 k = 0; k < sizeof noise; k++)
            noise[k] = (char)(i == 0   ? lb_test_rand()
                              : i == 1 ? 0
                              : i == 2 ? '\n'
                                       : 'x'); /* a line without an end */
        CHECK(write_all(fk_beside(file, "got", ".lbrx-journal"), (lb_str){noise, sizeof noise}));
        CHECK(resumes(file, NULL));
    }
}

static void put_line(lb_buf *b, const char *text) {
    char hex[33];
    size_t from = b->len;
    lb_buf_printf(b, "%s ", text);
    lb_hash_hex(lb_xxh128(b->ptr + from, b->len - from), hex);
    lb_buf_printf(b, "%.16s\n", hex);
}

/* Well-formed lines that say what is not so. */
LB_TEST(lies_in_a_journal) {
#define H "0123456789abcdef0123456789abcdef"
    static const char *const lies[] = {
        "job 999999999999 " H " 0 0",
        "job 0",
        "job 0 " H " 0 0 " H " 0 0",
        "job -1 " H " 0 0",
        "job 1 " H " 7 7",
        "job 2 xyz 0 0",
        "span 0 1 " H " 5 5 " H " 5 5",
        "span 0 2560 " H " 5 5 " H " 5 5",
        "span 0 18446744073709551615 " H " 0 0 " H " 0 0",
        "span 1 64 " H " 1 1",
        "span 1 63 " H " 1 1",
        "span 4 100 " H " 1 1",
        "span 4 0 " H " 1 1",
        "span 99 100 " H " 1 1",
        "place 0 18446744073709551615",
        "place 7 1",
        "src 0:999:" H,
        "src 9:0:" H,
        "src 0:0",
        "unsynced",
        "more",
        "",
    };
#undef H
    lb_arena a = {0};
    lb_str text;
    size_t end;
    if (!undisturbed(file))
        return;
    for (u32 i = 0; i < LB_LEN(lies); i++)
        for (u32 whole = 0; whole < 2; whole++) { /* after the head; after all */
            lb_buf b = {0};
            CHECK(nearly_done(file));
            const char *path = fk_beside(file, "got", ".lbrx-journal");
            CHECK(read_all(path, &a, &text) && lb_str_find(text, LB_STR("\n"), &end));
            lb_buf_put(&b, text.ptr, whole ? text.len : end + 1);
            put_line(&b, lies[i]);
            CHECK(write_all(path, lb_buf_str(&b)));
            lb_buf_deinit(&b);
            CHECK(resumes(file, NULL));
        }
    lb_arena_deinit(&a);
}

LB_TEST(journals_of_others) {
    lb_arena a = {0};
    lb_buf b = {0};
    lb_str text, line;
    size_t end;
    if (!undisturbed(file))
        return;
    fk_scene other = *file;
    other.options = "another";
    CHECK(nearly_done(file));
    fk_end e = fk_run(&other, "got", true, NULL);
    CHECK(e.status == LB_E_FORMAT);
    CHECK(strstr(e.msg, "without --resume") != NULL);
    CHECK(resumes(file, &e)); /* nothing of it was lost */
    CHECK(e.kept_jobs >= 4);
    /* the same plan in another version's words */
    CHECK(nearly_done(file));
    const char *path = fk_beside(file, "got", ".lbrx-journal");
    CHECK(read_all(path, &a, &text) && lb_str_find(text, LB_STR("\n"), &end));
    line = lb_str_sub(text, 0, end - 17);
    lb_buf_printf(&b, "lbrx-journal 1%.*s", (int)line.len - 14, line.ptr + 14);
    lb_buf_put_u8(&b, 0);
    lb_buf all = {0};
    put_line(&all, (const char *)b.ptr);
    lb_buf_put(&all, text.ptr + end + 1, text.len - end - 1);
    CHECK(write_all(path, lb_buf_str(&all)));
    e = fk_run(file, "got", true, NULL);
    CHECK(e.status == LB_E_FORMAT);
    lb_buf_deinit(&b);
    lb_buf_deinit(&all);
    lb_arena_deinit(&a);
}

/* Complete under its final name, the journal not yet removed: finished by --resume. Damaged since:
 * it exists, and only --force replaces it. */
LB_TEST(in_place_and_damaged) {
    fk_scene forced = *file;
    forced.force = true;
    if (!undisturbed(file))
        return;
    for (u32 damaged = 0; damaged < 2; damaged++) {
        CHECK(fk_reset(file, "got"));
        fk_end e = fk_run(file, "got", false, NULL); /* how many removals there are */
        u64 n = 0;
        for (u64 k = 1; k < 20 && !n; k++) {
            CHECK(interrupted(file, SEAM_REMOVE, k) ||
                  lb_os_exists(fk_output(file, "got"))); /* past the last */
            if (lb_os_exists(fk_output(file, "got")))
                n = k;
        }
        CHECK(lb_os_exists(fk_beside(file, "got", ".lbrx-journal")));
        if (!damaged) {
            CHECK(resumes(file, &e));
            CHECK(e.kept_jobs >= 4);
            continue;
        }
        CHECK(overwrite(fk_output(file, "got"), 5000, 1, false));
        e = fk_run(file, "got", true, NULL);
        CHECK(e.status == LB_E_USAGE && strstr(e.msg, "--force") != NULL);
        e = fk_run(&forced, "got", true, NULL);
        CHECK(e.status == LB_OK);
        CHECK(fk_same("got", "want"));
    }
}

/* ---- more than one at a time ---- */

LB_TEST(lock_of_another) {
    if (!undisturbed(file))
        return;
    CHECK(nearly_done(file));
    int fd = open(fk_beside(file, "got", ".lbrx-journal"), O_RDWR);
    CHECK(fd >= 0 && flock(fd, LOCK_EX) == 0);
    for (u32 resume = 0; resume < 2; resume++) {
        fk_end e = fk_run(file, "got", resume != 0, NULL);
        CHECK(e.status == LB_E_LIMIT);
        CHECK(strstr(e.msg, "another process") != NULL);
    }
    CHECK(close(fd) == 0);
    fk_end e;
    CHECK(resumes(file, &e));
    CHECK(e.kept_jobs >= 4); /* untouched by those that were refused */
}

LB_TEST(several_at_once) {
    if (!undisturbed(file))
        return;
    u32 n_ok = 0, rounds = getenv("LB_TEST_LONG") ? 300 : 20;
    for (u32 i = 0; i < rounds; i++) {
        int status;
        pid_t pid[4];
        CHECK(fk_reset(file, "got"));
        for (u32 k = 0; k < LB_LEN(pid); k++) {
            pid[k] = fork();
            if (pid[k] == 0) {
                fk_end e = fk_run(file, "got", (i + k) % 3 == 0, NULL);
                bool ok = e.status == LB_OK || e.status == LB_E_LIMIT || e.status == LB_E_USAGE;
                if (!ok)
                    fprintf(stderr, "%s\n", e.msg);
                _exit(e.killed || !ok ? 3 : e.status == LB_OK ? 0 : 1);
            }
        }
        u32 n_bad = 0, n_done = 0;
        for (u32 k = 0; k < LB_LEN(pid); k++) {
            CHECK(waitpid(pid[k], &status, 0) == pid[k]);
            n_bad += !WIFEXITED(status) || WEXITSTATUS(status) == 3;
            n_done += WIFEXITED(status) && WEXITSTATUS(status) == 0;
        }
        CHECK_U64(n_bad, 0);
        CHECK(n_done == 1); /* the others found it locked, or there already */
        CHECK(fk_same("got", "want"));
        n_ok += n_done;
    }
    CHECK_U64(n_ok, rounds);
}

static bool at_once(void *user) {
    (void)user;
    return true;
}

/* ctrl-C while the kept bytes are checked: nothing is lost by it. */
LB_TEST(stopped_while_checking) {
    if (!undisturbed(file))
        return;
    fk_scene impatient = *file;
    impatient.stop = at_once;
    CHECK(nearly_done(file));
    fk_end e = fk_run(&impatient, "got", true, NULL);
    CHECK(e.status == LB_E_INTERRUPTED);
    CHECK(resumes(file, &e));
    CHECK(e.kept_jobs >= 4);
}

/* ---- places that cannot be written ---- */

LB_TEST(folders_that_cannot_be_written) {
    if (!undisturbed(file))
        return;
    fk_scene nobody = *file;
    nobody.uid = geteuid() == 0 ? 65534 : 0;
    CHECK(fk_reset(file, "got"));
    CHECK(chmod(lb_test_dir(), 0755) == 0 && chmod(fk_path("got", ""), 0555) == 0);
    fk_end e = fk_run(&nobody, "got", false, NULL);
    CHECK(e.status == LB_E_IO);
    CHECK(strstr(e.msg, "out.gguf") != NULL && strstr(e.msg, "ermission") != NULL);
    CHECK(chmod(fk_path("got", ""), 0755) == 0);
    CHECK(!lb_os_exists(fk_beside(file, "got", ".lbrx-journal")));
    e = fk_run(file, "nowhere", false, NULL);
    CHECK(e.status == LB_E_IO && strstr(e.msg, "no folder") != NULL);
    /* a partial that belongs to somebody else */
    if (nobody.uid) {
        CHECK(nearly_done(file));
        CHECK(chmod(fk_path("got", ""), 0777) == 0);
        e = fk_run(&nobody, "got", true, NULL);
        CHECK(e.status == LB_E_IO && strstr(e.msg, "ermission") != NULL);
        CHECK(resumes(file, &e));
        CHECK(e.kept_jobs >= 4);
    }
}

LB_TEST_MAIN("slow")
