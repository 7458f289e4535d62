/* SPDX-License-Identifier: Apache-2.0 */
/* test_thread.c: threads, waiting, processors, the quota of control groups. */
#include "test.h"
#include "base/cpu.h"
#include "base/os.h"
#include "base/sysinfo.h"
#include "base/thread.h"
#include <stdlib.h>
#if defined(__linux__)
#include <sched.h>
#endif

typedef struct counter {
    lb_mutex lock;
    lb_cond cond;
    u64 n, turn;
} counter;

static void *count_up(void *arg) {
    counter *c = arg;
    for (int i = 0; i < 5000; i++) {
        lb_lock(&c->lock);
        c->n++;
        lb_unlock(&c->lock);
    }
    return NULL;
}

LB_TEST(mutex) {
    lb_err err = {0};
    counter c = {.n = 0};
    lb_thread t[8] = {0};
    lb_mutex_init(&c.lock);
    for (int i = 0; i < 8; i++)
        CHECK_OK(lb_thread_start(&t[i], count_up, &c, &err));
    for (int i = 0; i < 8; i++)
        lb_thread_join(&t[i]);
    CHECK_U64(c.n, 8 * 5000);
    lb_thread_join(&t[0]); /* again: fine */
    lb_thread never = {0};
    lb_thread_join(&never);
    lb_mutex_deinit(&c.lock);
}

static void *ping(void *arg) {
    counter *c = arg;
    lb_lock(&c->lock);
    for (int i = 0; i < 1000; i++) {
        while (c->turn != 1)
            lb_wait(&c->cond, &c->lock);
        c->turn = 0;
        c->n++;
        lb_wake_all(&c->cond);
    }
    lb_unlock(&c->lock);
    return NULL;
}

LB_TEST(condition) {
    lb_err err = {0};
    counter c = {.n = 0};
    lb_thread t;
    lb_mutex_init(&c.lock);
    lb_cond_init(&c.cond);
    CHECK_OK(lb_thread_start(&t, ping, &c, &err));
    lb_lock(&c.lock);
    for (int i = 0; i < 1000; i++) {
        c.turn = 1;
        lb_wake_one(&c.cond);
        while (c.turn != 0)
            lb_wait(&c.cond, &c.lock);
    }
    /* Nobody wakes us: at least the time passes. */
    u64 begin = lb_os_now_us();
    while (lb_wait_us(&c.cond, &c.lock, 30000)) {
    }
    u64 took = lb_os_now_us() - begin;
    CHECK(took >= 29000 && took < 20000000);
    lb_unlock(&c.lock);
    lb_thread_join(&t);
    CHECK_U64(c.n, 1000);
    lb_cond_deinit(&c.cond);
    lb_mutex_deinit(&c.lock);
}

/* The planned stack is really there: three quarters of it can be written. */
static void *use_stack(void *arg) {
    volatile u8 room[LB_STACK_BYTES * 3 / 4];
    for (size_t i = 0; i < sizeof room; i += 512)
        room[i] = (u8)i;
    *(u64 *)arg = room[512 * 3];
    return NULL;
}

LB_TEST(stack) {
    lb_err err = {0};
    lb_thread t;
    u64 out = 99;
    CHECK_OK(lb_thread_start(&t, use_stack, &out, &err));
    lb_thread_join(&t);
    CHECK_U64(out, 0);
}

/* What processors and systems say (CPUID's dumps), and what each lacks that goes with a bit. */
LB_TEST(cpuid) {
    const u32 c1 = 0x7ffafbff, avx2 = 1u << 5 | 1u << 8;
    const u32 wide = avx2 | 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    const u32 all512 = LB_ISA_AVX512 | LB_ISA_AVX512VNNI | LB_ISA_AVX512VBMI;
    static const u32 vnni_vbmi = 1u << 11 | 1u << 1, avx_vnni = 1u << 4;
    const struct {
        lb_cpuid r;
        u32 want;
    } cases[] = {
        {{c1, avx2, 0, 0, 7}, LB_ISA_AVX2},                                    /* Haswell */
        {{c1, avx2, 0x98c027ac, 0x00401c30, 7}, LB_ISA_AVX2 | LB_ISA_AVXVNNI}, /* Alder Lake */
        {{c1, wide, vnni_vbmi, 0, 0xe7}, LB_ISA_AVX2 | all512},                /* Zen 4 */
        {{c1, wide, 1u << 11, 0, 0xe7}, LB_ISA_AVX2 | LB_ISA_AVX512 | LB_ISA_AVX512VNNI},
        {{c1, wide, vnni_vbmi, avx_vnni, 0xe7}, LB_ISA_AVX2 | LB_ISA_AVXVNNI | all512},
        {{c1, wide, vnni_vbmi, avx_vnni, 7}, LB_ISA_AVX2 | LB_ISA_AVXVNNI}, /* no ZMM state */
        {{c1, wide, vnni_vbmi, avx_vnni, 3}, 0},                            /* nor YMM's */
        {{c1 & ~(1u << 27), wide, vnni_vbmi, avx_vnni, 0}, 0},              /* no XSAVE */
        {{c1 & ~(1u << 12), wide, vnni_vbmi, avx_vnni, 0xe7}, 0},           /* no FMA */
        {{c1, 1u << 8, 0, avx_vnni, 7}, 0},                                 /* no AVX2 */
        {{c1, avx2, vnni_vbmi, ~avx_vnni, 0xe7}, LB_ISA_AVX2}, /* AVX-512's bits without it */
    };
    for (size_t i = 0; i < LB_LEN(cases); i++)
        CHECK_U64(lb_isa_of_cpuid(&cases[i].r), cases[i].want);
}

LB_TEST(isa) {
    u32 mask = 99, here = lb_cpu_isa();
    static const lb_isa all[] = {LB_ISA_REF,    LB_ISA_AVX2,       LB_ISA_AVXVNNI,
                                 LB_ISA_AVX512, LB_ISA_AVX512VNNI, LB_ISA_AVX512VBMI,
                                 LB_ISA_NEON,   LB_ISA_DOTPROD,    LB_ISA_I8MM};
    for (size_t i = 0; i < LB_LEN(all); i++) {
        CHECK(lb_isa_parse(lb_str_c(lb_isa_name(all[i])), &mask));
        CHECK((mask & all[i]) == (u32)all[i]);
    }
    CHECK(lb_isa_parse(LB_STR("ref"), &mask) && mask == 0);
    CHECK(lb_isa_parse(LB_STR("avx512"), &mask) && mask == (LB_ISA_AVX2 | LB_ISA_AVX512));
    CHECK(lb_isa_parse(LB_STR("avxvnni"), &mask) && mask == (LB_ISA_AVX2 | LB_ISA_AVXVNNI));
    CHECK(lb_isa_parse(LB_STR("avx512vbmi"), &mask) &&
          mask == (LB_ISA_AVX2 | LB_ISA_AVX512 | LB_ISA_AVX512VNNI | LB_ISA_AVX512VBMI));
    CHECK(lb_isa_parse(LB_STR("i8mm"), &mask) &&
          mask == (LB_ISA_NEON | LB_ISA_DOTPROD | LB_ISA_I8MM));
    CHECK(!lb_isa_parse(LB_STR("avx"), &mask) && !lb_isa_parse(LB_STR(""), &mask));
    CHECK(!lb_isa_parse(LB_STR("AVX2"), &mask));
    if (here & (LB_ISA_AVX512 | LB_ISA_AVXVNNI))
        CHECK(here & LB_ISA_AVX2);
#if defined(__x86_64__) && defined(__linux__)
    /* The kernel's own list agrees. */
    lb_arena a = {0};
    lb_err err = {0};
    lb_str text;
    size_t pos;
    CHECK_OK(lb_os_read_file("/proc/cpuinfo", 16 * LB_MIB, &a, &text, &err));
    bool avx2 =
        lb_str_find(text, LB_STR(" avx2 "), &pos) && lb_str_find(text, LB_STR(" fma "), &pos) &&
        lb_str_find(text, LB_STR(" f16c "), &pos) && lb_str_find(text, LB_STR(" bmi2 "), &pos);
    bool avx512 = avx2 && lb_str_find(text, LB_STR(" avx512bw "), &pos) &&
                  lb_str_find(text, LB_STR(" avx512dq "), &pos) &&
                  lb_str_find(text, LB_STR(" avx512vl "), &pos);
    bool vbmi = avx512 && lb_str_find(text, LB_STR(" avx512vbmi "), &pos);
    CHECK(((here & LB_ISA_AVX2) != 0) == avx2 && ((here & LB_ISA_AVX512) != 0) == avx512);
    CHECK(((here & LB_ISA_AVX512VBMI) != 0) == vbmi);
    /* A Linux older than the processor has no name for it. */
    if (lb_str_find(text, LB_STR(" avx_vnni "), &pos))
        CHECK(here & LB_ISA_AVXVNNI);
    lb_arena_deinit(&a);
#elif defined(__aarch64__)
    CHECK((here & LB_ISA_NEON) && (here & ~(u32)(LB_ISA_NEON | LB_ISA_DOTPROD | LB_ISA_I8MM)) == 0);
    if (here & LB_ISA_I8MM)
        CHECK(here & LB_ISA_DOTPROD);
#endif
}

LB_TEST(cpu_count) {
    u32 n = lb_cpu_count();
    CHECK(n >= 1 && n <= 1 << 16);
#if defined(__linux__)
    cpu_set_t old, one;
    if (sched_getaffinity(0, sizeof old, &old) != 0) {
        lb_test_skip("more processors than cpu_set_t holds");
        return;
    }
    CHECK(n <= (u32)CPU_COUNT(&old));
    CPU_ZERO(&one);
    for (size_t i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &old)) {
            CPU_SET(i, &one);
            break;
        }
    CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
    u32 pinned = lb_cpu_count();
    CHECK(sched_setaffinity(0, sizeof old, &old) == 0);
    CHECK_U64(pinned, 1);
    CHECK_U64(lb_cpu_count(), n);
#endif
}

#if defined(__linux__)
/* A folder that stands for "/": files are made with the folders above them. */
static bool put(const char *root, const char *name, const char *text) {
    char path[1000];
    lb_err err = {0};
    int fd;
    int n = snprintf(path, sizeof path, "%s%s", root, name);
    for (int i = (int)strlen(root) + 1; i < n; i++)
        if (path[i] == '/') {
            path[i] = 0;
            if (lb_os_mkdir(path, true, &err) != LB_OK)
                return false;
            path[i] = '/';
        }
    bool ok = lb_os_open_write(path, false, &fd, &err) == LB_OK &&
              lb_os_truncate(fd, path, 0, &err) == LB_OK &&
              lb_os_pwrite(fd, path, text, strlen(text), 0, &err) == LB_OK;
    lb_os_close(&fd);
    return ok;
}

static const char *new_root(const char *name) {
    static char root[600];
    lb_err err = {0};
    snprintf(root, sizeof root, "%s/%s", lb_test_dir(), name);
    (void)lb_os_mkdir(root, false, &err);
    return root;
}

LB_TEST(quota_v2) {
    const char *r = new_root("v2");
    CHECK_U64(lb_cpu_quota(r), UINT32_MAX); /* no such system */
    CHECK(put(r, "/proc/self/cgroup", "0::/user/app\n"));
    CHECK_U64(lb_cpu_quota(r), UINT32_MAX);
    CHECK(put(r, "/sys/fs/cgroup/user/app/cpu.max", "max 100000\n"));
    CHECK_U64(lb_cpu_quota(r), UINT32_MAX);
    CHECK(put(r, "/sys/fs/cgroup/user/app/cpu.max", "400000 100000\n"));
    CHECK_U64(lb_cpu_quota(r), 4);
    CHECK(put(r, "/sys/fs/cgroup/user/app/cpu.max", "250000 100000\n"));
    CHECK_U64(lb_cpu_quota(r), 3);
    CHECK(put(r, "/sys/fs/cgroup/user/cpu.max", "150000 100000\n")); /* the group above */
    CHECK_U64(lb_cpu_quota(r), 2);
    CHECK(put(r, "/sys/fs/cgroup/user/app/cpu.max", "1000 100000\n"));
    CHECK_U64(lb_cpu_quota(r), 1);
}

LB_TEST(quota_v2_in_a_container) {
    const char *r = new_root("box");
    CHECK(put(r, "/proc/self/cgroup", "0::/\n"));
    CHECK(put(r, "/sys/fs/cgroup/cpu.max", "600000 100000\n"));
    CHECK_U64(lb_cpu_quota(r), 6);
    CHECK(put(r, "/proc/self/cgroup", "0::/../../docker/0123456789abcdef\n")); /* not visible */
    CHECK_U64(lb_cpu_quota(r), 6);
}

LB_TEST(quota_v1) {
    const char *r = new_root("v1");
    CHECK(put(r, "/proc/self/cgroup",
              "12:cpuset:/docker/abc\n5:cpuacct,cpu:/docker/abc\n1:name=systemd:/x\n0::/x\n"));
    CHECK(put(r, "/sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us", "-1\n"));
    CHECK(put(r, "/sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us", "100000\n"));
    CHECK_U64(lb_cpu_quota(r), UINT32_MAX);
    CHECK(put(r, "/sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us", "350000\n"));
    CHECK_U64(lb_cpu_quota(r), 4);
    CHECK(put(r, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "200000\n"));
    CHECK(put(r, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"));
    CHECK_U64(lb_cpu_quota(r), 2);
    /* Only groups of the controller "cpu" count. */
    CHECK(put(r, "/proc/self/cgroup", "12:cpuset:/docker/abc\n3:memory:/docker/abc\n"));
    CHECK_U64(lb_cpu_quota(r), UINT32_MAX);
}

LB_TEST(quota_nonsense) {
    static const char *const files[] = {"",          "\n",       "max",
                                        "100000",    "100000 0", "0 100000",
                                        "-5 100000", "x y",      "99999999999999999999999 1",
                                        "100000 "};
    const char *r = new_root("odd");
    CHECK(put(r, "/proc/self/cgroup", "0::/\n\nnocolon\n:\n::\n0::/a\n"));
    for (size_t i = 0; i < LB_LEN(files); i++) {
        CHECK(put(r, "/sys/fs/cgroup/cpu.max", files[i]));
        CHECK_U64(lb_cpu_quota(r), UINT32_MAX);
    }
    CHECK(put(r, "/sys/fs/cgroup/cpu.max", "18446744073709551615 1\n"));
    CHECK_U64(lb_cpu_quota(r), UINT32_MAX);
    char longer[3000];
    memset(longer, 'd', sizeof longer - 1);
    longer[0] = '0', longer[1] = longer[2] = ':', longer[3] = '/', longer[sizeof longer - 1] = 0;
    CHECK(put(r, "/proc/self/cgroup", longer));
    CHECK(put(r, "/sys/fs/cgroup/cpu.max", "300000 100000\n"));
    CHECK_U64(lb_cpu_quota(r), 3); /* a path too long for us: the mount itself */
}

#define MIB 1048576ull

LB_TEST(memory_left_of_the_machine) {
    const char *r = new_root("mem");
    CHECK(put(r, "/proc/meminfo",
              "MemTotal:       16000 kB\nMemFree:  1 kB\nMemAvailable:  9000 kB\n"));
    CHECK_U64(lb_sys_memory_left(r), 9000 * 1024);
    CHECK(put(r, "/proc/self/cgroup", "0::/a/b\n"));
    CHECK_U64(lb_sys_memory_left(r), 9000 * 1024); /* no limit that could be read */
    CHECK(lb_sys_memory_left("") > MIB);
}

LB_TEST(memory_left_v2) {
    const char *r = new_root("mem2");
    CHECK(put(r, "/proc/meminfo", "MemAvailable:  900000000 kB\n"));
    CHECK(put(r, "/proc/self/cgroup", "0::/a/b\n"));
    CHECK(put(r, "/sys/fs/cgroup/a/b/memory.max", "max\n"));
    CHECK(put(r, "/sys/fs/cgroup/a/b/memory.current", "104857600\n"));
    CHECK_U64(lb_sys_memory_left(r), 900000000ull * 1024);
    CHECK(put(r, "/sys/fs/cgroup/a/b/memory.max", "524288000\n"));
    CHECK_U64(lb_sys_memory_left(r), 400 * MIB);
    CHECK(put(r, "/sys/fs/cgroup/a/b/memory.stat",
              "anon 20\nfile 83886080\ninactive_anon 1\ninactive_file 41943040\n"
              "active_file 20971520\nunevictable 0\n"));
    CHECK_U64(lb_sys_memory_left(r), 460 * MIB); /* a cache gives way */
    CHECK(put(r, "/sys/fs/cgroup/a/b/memory.high", "419430400\n"));
    CHECK_U64(lb_sys_memory_left(r), 360 * MIB);
    CHECK(put(r, "/sys/fs/cgroup/a/memory.max", "209715200\n")); /* the group above */
    CHECK(put(r, "/sys/fs/cgroup/a/memory.current", "157286400\n"));
    CHECK_U64(lb_sys_memory_left(r), 50 * MIB);
    CHECK(put(r, "/sys/fs/cgroup/a/memory.current", "309715200\n")); /* beyond its limit */
    CHECK_U64(lb_sys_memory_left(r), 0);
}

LB_TEST(memory_left_v1) {
    const char *r = new_root("mem1");
    CHECK(put(r, "/proc/meminfo", "MemAvailable:  900000000 kB\n"));
    CHECK(put(r, "/proc/self/cgroup", "9:name=systemd:/\n4:memory:/docker/abc\n0::/\n"));
    CHECK(
        put(r, "/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "9223372036854771712\n"));
    CHECK(put(r, "/sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes", "104857600\n"));
    CHECK_U64(lb_sys_memory_left(r), 900000000ull * 1024);
    CHECK(put(r, "/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "209715200\n"));
    CHECK(put(r, "/sys/fs/cgroup/memory/docker/abc/memory.stat",
              "cache 1\ninactive_file 1048576\nactive_file 0\ntotal_inactive_file 10485760\n"
              "total_active_file 20971520\n"));
    CHECK_U64(lb_sys_memory_left(r), 130 * MIB); /* with the groups below it */
    CHECK(put(r, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "8388608\n"));
    CHECK(put(r, "/sys/fs/cgroup/memory/memory.usage_in_bytes", "0\n"));
    CHECK_U64(lb_sys_memory_left(r), 8 * MIB);
}
#endif

LB_TEST(instruction_sets) {
    CHECK(setenv("LBRX_CPU", "ref", 1) == 0);
    CHECK_U64(lb_sys_isa(), 0);
    CHECK(setenv("LBRX_CPU", "avx2", 1) == 0);
    CHECK_U64(lb_sys_isa(), lb_cpu_isa() & LB_ISA_AVX2);
    CHECK(setenv("LBRX_CPU", "pentium", 1) == 0);
    CHECK_U64(lb_sys_isa(), lb_cpu_isa());
    CHECK(setenv("LBRX_CPU", "", 1) == 0);
    CHECK_U64(lb_sys_isa(), lb_cpu_isa());
    CHECK(unsetenv("LBRX_CPU") == 0);
    CHECK_U64(lb_sys_isa(), lb_cpu_isa());
}

LB_TEST_MAIN("fast")
