/* SPDX-License-Identifier: Apache-2.0 */
/* checkkern.c: the program: options, the walk over kernels and instruction sets, the closing line.
 *
 *   checkkern [--long] [--selftest] [--bench] [--kernel PART] [--isa NAME] [--seed N] [--case N]
 *
 * Without options: all kernels, short, and the selftest; with LB_TEST_CASES (percent) about that
 * share of the cases of each kernel, over all shapes, fills and places. A kernel counts once for
 * each instruction set that has its own code for it; instruction sets that the machine lacks count
 * as skipped, one for each file of this build. */
#include "checkkern.h"
#include <stdlib.h>
#include <time.h>

double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static _Noreturn void usage(void) {
    fprintf(stderr, "usage: checkkern [--long] [--selftest] [--bench] [--kernel PART] [--isa NAME] "
                    "[--seed N] [--case N]\n");
    exit(2);
}

/* One case in how many: a number without a factor in common with those of fills and places, and
 * smaller than that of a shape's cases, so that each of them is met. */
static u32 case_step(void) {
    const char *share = getenv("LB_TEST_CASES");
    const u64 percent = share ? strtoull(share, NULL, 10) : 100;
    u32 step = (u32)LB_MIN(100 / LB_MAX(LB_MIN(percent, 100), 1), N_FILLS - 1);
    while (step % 2 == 0 || step % 5 == 0)
        step++;
    return step;
}

static options parse(int argc, char **argv) {
    options o = {.seed = DEFAULT_SEED, .case_step = case_step()};
    const char *seed = getenv("LB_TEST_SEED");
    if (seed)
        o.seed = strtoull(seed, NULL, 0);
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(a, "--long")) {
            o.is_long = true;
        } else if (!strcmp(a, "--selftest")) {
            o.selftest = true;
        } else if (!strcmp(a, "--bench")) {
            o.bench = true;
        } else if (!value) {
            usage();
        } else if (!strcmp(a, "--kernel")) {
            o.only = argv[++i];
        } else if (!strcmp(a, "--isa")) {
            o.isa = argv[++i];
        } else if (!strcmp(a, "--seed")) {
            o.seed = strtoull(argv[++i], NULL, 0);
        } else if (!strcmp(a, "--case")) {
            o.one_case = strtoull(argv[++i], NULL, 0);
            o.has_case = true;
        } else {
            usage();
        }
    }
    return o;
}

static void check_all(const options *o, const ladder *l, u32 *n_passed, u32 *n_failed) {
    for (size_t i = 0; i < n_kerns(); i++) {
        const kern w = get_kern(i);
        if (o->only && !strstr(w.name, o->only))
            continue;
        u32 steps = 0;
        for (size_t s = 0; s < l->n_steps; s++)
            if (has_own(l, &w, s) && (!o->isa || !strcmp(o->isa, l->step[s].name)))
                steps |= 1u << s;
        const u32 failed = check_kern(o, &w, l, steps);
        *n_failed += (u32)__builtin_popcount(failed);
        *n_passed += (u32)__builtin_popcount(steps & ~failed);
    }
}

int main(int argc, char **argv) {
    options o = parse(argc, argv);
    const double start = seconds();
    u32 n_passed = 0, n_failed = 0, n_skipped = 0;
    ladder l;
    ladder_init(&l);
    if (o.bench) {
        bench(&o, &l);
        return 0;
    }
    const bool all = !o.selftest && !o.only && !o.isa && !o.has_case;
    if (!o.selftest)
        check_all(&o, &l, &n_passed, &n_failed);
    if (o.selftest || all) {
        options quiet = {.seed = o.seed, .case_step = 1, .quiet = true};
        u32 n_caught, n_missed;
        selftest(&quiet, &n_caught, &n_missed);
        n_passed += n_caught;
        n_failed += n_missed;
    }
    if (all && l.n_absent) {
        printf("skip: checkkern: %u files of SIMD kernels for other processors\n", l.n_absent);
        n_skipped = l.n_absent;
        if (getenv("NOSKIP")) {
            n_failed += n_skipped;
            n_skipped = 0;
        }
    }
    if (n_failed)
        printf("seed %llu\n", (unsigned long long)o.seed);
    printf("checkkern: %u passed, %u failed, %u skipped [cost: %s] %.1f s\n", n_passed, n_failed,
           n_skipped, o.is_long ? "slow" : "fast", seconds() - start);
    return n_failed ? 1 : 0;
}
