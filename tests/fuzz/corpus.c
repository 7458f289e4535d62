/* SPDX-License-Identifier: Apache-2.0 */
/* corpus.c: main of a fuzz target where libFuzzer is not linked: every file of the committed corpus
 * (tests/fuzz/corpus/<name>), its prefixes and a few bit flips of it go through the target once.
 *
 * What a fuzzer once found stays in the corpus, so `make test` runs it on every compiler. An input
 * that crashes or hangs ends the program without its closing line, which run.sh counts as a
 * failure. */
#include "base/base.h"
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CORPUS_FILE_MAX ((size_t)1 << 20)
#define CORPUS_VARIANTS \
    64 /* prefixes and flips of each file: the whole suite stays under a second */

static char running[2048]; /* "FILE: first 12 bytes", for the message of a crash */
static size_t running_file_len;

#ifndef __SANITIZE_ADDRESS__ /* a sanitizer has more to say itself */
static void on_crash(int sig) {
    static const char what[] = "crashed on ";
    (void)!write(2, what, sizeof what - 1);
    (void)!write(2, running, strlen(running));
    (void)!write(2, "\n", 1);
    (void)signal(sig, SIG_DFL);
    (void)raise(sig);
}
#endif

static u64 next_random(u64 *state) { /* splitmix64 */
    u64 z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* A copy of exactly size bytes, so that a sanitizer sees the first byte read beyond them. */
static void run_copy(const u8 *data, size_t size, u64 flip_bit) {
    u8 *copy = malloc(size ? size : 1);
    if (!copy)
        return;
    if (flip_bit == UINT64_MAX)
        (void)snprintf(running + running_file_len, sizeof running - running_file_len,
                       ": its first %zu bytes", size);
    else
        (void)snprintf(running + running_file_len, sizeof running - running_file_len,
                       ": bit %llu flipped", (unsigned long long)flip_bit);
    if (size)
        memcpy(copy, data, size);
    if (flip_bit < (u64)size * 8)
        copy[flip_bit / 8] ^= (u8)(1u << (flip_bit % 8));
    (void)LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static bool run_file(const char *path) {
    FILE *f = fopen(path, "rb");
    u8 *data = malloc(CORPUS_FILE_MAX);
    bool ok = f && data;
    size_t size = ok ? fread(data, 1, CORPUS_FILE_MAX, f) : 0;
    u64 rng = size;
    int n = snprintf(running, sizeof running, "%s", path);
    running_file_len = n > 0 && (size_t)n < sizeof running ? (size_t)n : 0;
    if (ok)
        run_copy(data, size, UINT64_MAX);
    for (u32 i = 0; ok && size && i < CORPUS_VARIANTS; i++) {
        run_copy(data, next_random(&rng) % size, UINT64_MAX);
        run_copy(data, size, next_random(&rng) % ((u64)size * 8));
    }
    if (f)
        (void)fclose(f);
    free(data);
    return ok;
}

int main(int argc, char **argv) {
    const char *base = strrchr(argv[0], '/');
    const char *root = getenv("LB_TEST_FUZZ");
    char dir[1024], path[2048];
    int n_passed = 0, n_failed = 0;
    struct timespec a, b;
    (void)argc;
    base = base ? base + 1 : argv[0];
    (void)clock_gettime(CLOCK_MONOTONIC, &a);
    (void)snprintf(dir, sizeof dir, "%s/corpus/%s", root ? root : "tests/fuzz",
                   strncmp(base, "fuzz_", 5) == 0 ? base + 5 : base);
#ifndef __SANITIZE_ADDRESS__
    (void)signal(SIGABRT, on_crash);
    (void)signal(SIGSEGV, on_crash);
#endif
    run_copy((const u8 *)"", 0, UINT64_MAX);
    DIR *d = opendir(dir);
    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
        struct stat st;
        (void)snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
            continue;
        if (run_file(path))
            n_passed++;
        else
            n_failed++;
    }
    if (d)
        (void)closedir(d);
    if (n_passed == 0) {
        fprintf(stderr, "%s: no corpus in %s\n", base, dir);
        n_failed++;
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &b);
    printf("%s: %d passed, %d failed, 0 skipped [cost: fast] %.1f s\n", base, n_passed, n_failed,
           (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec));
    return n_failed ? 1 : 0;
}
