/* SPDX-License-Identifier: Apache-2.0 */
/* sysinfo.c: facts about the machine from /proc, the control group (v2, v1) and sysctl. */
#include "base/sysinfo.h"
#include "base/cpu.h"
#include "base/os.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#ifdef __APPLE__
#include <sys/sysctl.h>
#endif

#ifdef __linux__
/* The number on the first line of a small file; UINT64_MAX for "max" or an absent file. */
static u64 read_number(const char *path) {
    FILE *f = fopen(path, "r");
    char line[64] = "";
    u64 v = UINT64_MAX;
    if (!f)
        return v;
    if (fgets(line, sizeof line, f)) {
        size_t n = strcspn(line, "\n");
        if (!lb_str_to_u64((lb_str){line, n}, &v))
            v = UINT64_MAX;
    }
    (void)fclose(f);
    return v;
}
#endif

u32 lb_sys_isa(void) {
    const char *asked = lb_os_env("LBRX_CPU");
    u32 keep;
    return asked && lb_isa_parse(lb_str_c(asked), &keep) ? lb_cpu_isa() & keep : lb_cpu_isa();
}

u64 lb_sys_memory_bytes(void) {
#ifdef __APPLE__
    u64 v = 0;
    size_t len = sizeof v;
    return sysctlbyname("hw.memsize", &v, &len, NULL, 0) == 0 ? v : 0;
#else
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    u64 total = pages > 0 && page > 0 ? (u64)pages * (u64)page : 0;
#ifdef __linux__
    u64 limit = read_number("/sys/fs/cgroup/memory.max");
    if (limit == UINT64_MAX)
        limit = read_number("/sys/fs/cgroup/memory/memory.limit_in_bytes");
    if (limit && limit < total)
        total = limit;
#endif
    return total;
#endif
}

const char *lb_sys_cpu_name(char *out, size_t cap) {
    out[0] = 0;
#ifdef __APPLE__
    size_t len = cap;
    if (sysctlbyname("machdep.cpu.brand_string", out, &len, NULL, 0) != 0)
        out[0] = 0;
#elif defined(__linux__)
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[256];
    while (f && fgets(line, sizeof line, f)) {
        const char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !value)
            continue;
        value += strspn(value, ": \t");
        (void)snprintf(out, cap, "%.*s", (int)strcspn(value, "\n"), value);
        break;
    }
    if (f)
        (void)fclose(f);
#endif
    return out;
}

const char *lb_sys_os(void) {
#if defined(__linux__)
    return "linux";
#elif defined(__APPLE__)
    return "darwin";
#else
    return "unknown";
#endif
}

const char *lb_sys_arch(void) {
#if defined(__x86_64__)
    return "x86_64";
#elif defined(__aarch64__)
    return "arm64";
#else
    return "unknown";
#endif
}
