/* SPDX-License-Identifier: Apache-2.0 */
/* cpus.c: how many processors this process may use: affinity, then the quota of its control group.
 *
 * Linux, version 2: cpu.max holds "max 100000" or "<quota> <period>", in microseconds, in the
 * group's folder and in each one above it; the smallest counts. Version 1: cpu.cfs_quota_us (-1:
 * none) and cpu.cfs_period_us. Inside a container the group's own path may not be visible; the
 * mount's root is then the container's group. Source: kernel.org, admin-guide/cgroup-v2.rst and
 * scheduler/sched-bwc.rst. */
#include "base/base.h"
#include "base/os.h"
#include "base/thread.h"
#include <stdio.h>
#include <unistd.h>

#if defined(__linux__)
#include <fcntl.h>
#include <sched.h>

/* A small file of the system; false if it is absent or does not fit. */
static bool read_small(const char *path, char *out, size_t cap) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    size_t len = 0;
    ssize_t n = 0;
    while (len < cap - 1 && (n = read(fd, out + len, cap - 1 - len)) > 0)
        len += (size_t)n;
    (void)close(fd);
    out[len] = 0;
    return n == 0;
}

/* Whole processors that quota microseconds in each period give, at least 1; UINT32_MAX: no
 * limit. */
static u32 quota_cpus(const char *quota, const char *period) {
    u64 q, p;
    lb_str qs = {quota, strspn(quota, "0123456789")}, ps = {period, strspn(period, "0123456789")};
    if (!lb_str_to_u64(qs, &q) || !lb_str_to_u64(ps, &p) || q == 0 || p == 0)
        return UINT32_MAX;
    u64 n = lb_ceil_div_u64(q, p);
    return n > UINT32_MAX ? UINT32_MAX : (u32)n;
}

/* The quota of one folder of either version. */
static u32 dir_cpus(const char *dir, bool v2) {
    char path[LB_CGROUP_PATH_MAX + 32], quota[64], period[64];
    if (v2) {
        snprintf(path, sizeof path, "%s/cpu.max", dir);
        if (!read_small(path, quota, sizeof quota))
            return UINT32_MAX;
        const char *space = strchr(quota, ' ');
        return space ? quota_cpus(quota, space + 1) : UINT32_MAX;
    }
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", dir);
    if (!read_small(path, quota, sizeof quota))
        return UINT32_MAX;
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", dir);
    return read_small(path, period, sizeof period) ? quota_cpus(quota, period) : UINT32_MAX;
}

/* The smallest quota from the group's folder up to the mount. */
static u32 walk_cpus(const char *mount, lb_str group, bool v2) {
    char dir[LB_CGROUP_PATH_MAX];
    size_t root = strlen(mount);
    int n = snprintf(dir, sizeof dir, "%s%.*s", mount, LB_FMT(group));
    u32 best = UINT32_MAX;
    if (n < 0 || (size_t)n >= sizeof dir)
        dir[root] = 0;
    for (;;) {
        u32 cpus = dir_cpus(dir, v2);
        best = LB_MIN(best, cpus);
        char *slash = strrchr(dir + root, '/');
        if (!slash)
            return best;
        *slash = 0;
    }
}

/* Is "cpu" one of the comma-separated controllers? */
static bool names_cpu(lb_str list) {
    size_t from = 0;
    for (size_t i = 0; i <= list.len; i++) {
        if (i < list.len && list.ptr[i] != ',')
            continue;
        if (lb_str_eq_c(lb_str_sub(list, from, i), "cpu"))
            return true;
        from = i + 1;
    }
    return false;
}

u32 lb_cpu_quota(const char *root) {
    static const char *const mounts_v1[] = {"cpu", "cpu,cpuacct"}, *const mounts_v2[] = {"",
                                                                                         "unified"};
    char text[4096], path[256];
    u32 best = UINT32_MAX;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    if (!read_small(path, text, sizeof text))
        return best;
    /* Lines "hierarchy:controllers:path"; version 2 is "0::path". */
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *a = strchr(line, ':'), *b = a ? strchr(a + 1, ':') : NULL;
        if (!b)
            continue;
        lb_str controllers = {a + 1, (size_t)(b - a) - 1}, group = lb_str_c(b + 1);
        bool v2 = controllers.len == 0;
        if (!v2 && !names_cpu(controllers))
            continue;
        if (lb_str_eq_c(group, "/"))
            group = LB_STR_NONE;
        for (int i = 0; i < 2; i++) {
            const char *sub = v2 ? mounts_v2[i] : mounts_v1[i];
            snprintf(path, sizeof path, "%s/sys/fs/cgroup%s%s", root, *sub ? "/" : "", sub);
            u32 cpus = walk_cpus(path, group, v2);
            best = LB_MIN(best, cpus);
        }
    }
    return best;
}

/* The mask's size is not known before: it is doubled until the kernel accepts it. */
static u32 affinity_cpus(void) {
    for (size_t n = 1024; n <= (size_t)1 << 20; n *= 2) {
        size_t bytes = CPU_ALLOC_SIZE(n);
        cpu_set_t *set = lb_alloc_zero(1, bytes);
        if (!set)
            return 0;
        bool ok = sched_getaffinity(0, bytes, set) == 0;
        int count = ok ? CPU_COUNT_S(bytes, set) : 0;
        lb_free(set);
        if (ok)
            return (u32)count;
    }
    return 0;
}
#else
u32 lb_cpu_quota(const char *root) {
    (void)root;
    return UINT32_MAX;
}

static u32 affinity_cpus(void) {
    return 0;
}
#endif

u32 lb_cpu_count(void) {
    u32 n = affinity_cpus(), quota = lb_cpu_quota("");
    if (n == 0) {
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        n = online > 0 && online < INT32_MAX ? (u32)online : 1;
    }
    return LB_MAX(LB_MIN(n, quota), 1u);
}
