/* SPDX-License-Identifier: Apache-2.0 */
/* test.h: a small test runner. A test file defines `LB_TEST(name) { ... }` any number of times and
 * `LB_TEST_MAIN("fast"|"slow")` once; the runner prints failures and one summary line a program:
 *     <program>: N passed, N failed, N skipped [cost: fast|slow] SECONDS s
 * tests/run.sh adds them up. A skip needs a reason; NOSKIP=1 makes it a failure.
 * LB_TEST_TIMES=1 prints the processor's seconds of each test. */
#ifndef LB_TESTS_TEST_H
#define LB_TESTS_TEST_H

#include "base/base.h"
#include <stdio.h>

typedef struct lb_test_case {
    const char *name;
    void (*run)(void);
    struct lb_test_case *next;
} lb_test_case;

void lb_test_register(lb_test_case *c);
int lb_test_main(int argc, char **argv, const char *cost);
void lb_test_fail(const char *file, int line, const char *fmt, ...) LB_PRINTF(3, 4);
void lb_test_skip(const char *reason); /* marks the running test as skipped; return after it */
/* Folder for scratch files of this program; made fresh, removed at the end unless a test failed. */
const char *lb_test_dir(void);
/* Path of a file under tests/golden. */
const char *lb_test_golden(const char *name);
/* Whether a limit of seconds means something: false when LB_TEST_NO_TIMING is set (valgrind,
 * emulators, busy machines) and under sanitizers. */
bool lb_test_timed(void);
/* Time that this process has used on all processors: limits on it hold whatever else runs. */
u64 lb_test_cpu_us(void);
/* How many of n repetitions of the same code run: all, or the share that LB_TEST_CASES (percent)
 * names, at least one: under sanitizers and emulators. */
u64 lb_test_cases(u64 n);
/* Whether LB_TEST_CASES asks for no less than all. */
bool lb_test_full(void);
/* n where LB_TEST_CASES asks for less than a fifth, as for valgrind, threads and emulators: every
 * n-th of places or ways that have the same code; else 1. */
u32 lb_test_stride(u32 n);
/* Whether LB_TEST_EMULATED says that a user-mode emulator runs this: limits of the system and
 * faults are not what they are on a machine. */
bool lb_test_emulated(void);
/* Deterministic random numbers; the seed (LB_TEST_SEED or fixed) is printed on failure. */
u64 lb_test_rand(void);
u64 lb_test_rand_below(u64 n);
float lb_test_normal(void);

#define LB_TEST(id)                                                \
    static void test_##id(void);                                   \
    __attribute__((constructor)) static void register_##id(void) { \
        static lb_test_case c = {#id, test_##id, NULL};            \
        lb_test_register(&c);                                      \
    }                                                              \
    static void test_##id(void)
#define LB_TEST_MAIN(cost)                     \
    int main(int argc, char **argv) {          \
        return lb_test_main(argc, argv, cost); \
    }

/* Each returns from the test on failure. */
#define CHECK(cond)                                        \
    do {                                                   \
        if (!(cond)) {                                     \
            lb_test_fail(__FILE__, __LINE__, "%s", #cond); \
            return;                                        \
        }                                                  \
    } while (0)
#define CHECK_OK(call)                                                                         \
    do {                                                                                       \
        lb_status check_st_ = (call);                                                          \
        if (check_st_ != LB_OK) {                                                              \
            lb_test_fail(__FILE__, __LINE__, "%s -> %s: %s", #call, lb_status_text(check_st_), \
                         err.msg);                                                             \
            return;                                                                            \
        }                                                                                      \
    } while (0)
#define CHECK_U64(a, b)                                                                   \
    do {                                                                                  \
        u64 check_a_ = (u64)(a), check_b_ = (u64)(b);                                     \
        if (check_a_ != check_b_) {                                                       \
            lb_test_fail(__FILE__, __LINE__, "%s = %llu, expected %s = %llu", #a,         \
                         (unsigned long long)check_a_, #b, (unsigned long long)check_b_); \
            return;                                                                       \
        }                                                                                 \
    } while (0)
#define CHECK_STR(a, b)                                                              \
    do {                                                                             \
        lb_str check_a_ = (a), check_b_ = lb_str_c(b);                               \
        if (!lb_str_eq(check_a_, check_b_)) {                                        \
            lb_test_fail(__FILE__, __LINE__, "%s = \"%.*s\", expected \"%.*s\"", #a, \
                         LB_FMT(check_a_), LB_FMT(check_b_));                        \
            return;                                                                  \
        }                                                                            \
    } while (0)

#endif
