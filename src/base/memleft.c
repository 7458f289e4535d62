/* SPDX-License-Identifier: Apache-2.0 */
/* memleft.c: how much memory a process may still fill before something is pushed out or killed.
 *
 * Linux: MemAvailable, and of the process's control group and each one above it what it allows
 * (version 2: the less of memory.max and memory.high; version 1: memory.limit_in_bytes) beside what
 * is in use and no file's cache, which gives way. Source: kernel.org, admin-guide/cgroup-v2.rst and
 * cgroup-v1/memory.rst. */
#include "base/os.h"
#include "base/sysinfo.h"
#include "base/thread.h"
#include <stdio.h>
#if defined(__linux__)
#include <fcntl.h>
#include <unistd.h>

#define TEXT_BYTES 16384 /* memory.stat has 3 to 6 KB */

/* A small file of the system, cut at the end of text. */
static bool read_text(const char *dir, const char *name, char *text) {
    char path[LB_CGROUP_PATH_MAX + 64];
    size_t len = 0;
    ssize_t n = 0;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    while (len < TEXT_BYTES - 1 && (n = read(fd, text + len, TEXT_BYTES - 1 - len)) > 0)
        len += (size_t)n;
    (void)close(fd);
    text[len] = 0;
    return n >= 0;
}

/* The number behind a word that begins a line. */
static bool value_of(const char *text, const char *word, u64 *out) {
    size_t n = strlen(word);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, word, n) != 0 || (line[n] != ' ' && line[n] != ':'))
            continue;
        const char *at = line + n + 1;
        at += strspn(at, " \t");
        return lb_str_to_u64((lb_str){at, strspn(at, "0123456789")}, out);
    }
    return false;
}

/* A file that holds one number; false: absent, or "max". */
static bool number_in(const char *dir, const char *name, char *text, u64 *out) {
    return read_text(dir, name, text) &&
           lb_str_to_u64((lb_str){text, strspn(text, "0123456789")}, out);
}

/* What one group leaves; UINT64_MAX: no limit. */
static u64 group_left(const char *dir, bool v2, char *text) {
    u64 limit = UINT64_MAX, high, used, cache = 0, part;
    if (!number_in(dir, v2 ? "memory.max" : "memory.limit_in_bytes", text, &limit))
        limit = UINT64_MAX;
    if (v2 && number_in(dir, "memory.high", text, &high))
        limit = LB_MIN(limit, high);
    if (limit == UINT64_MAX ||
        !number_in(dir, v2 ? "memory.current" : "memory.usage_in_bytes", text, &used))
        return UINT64_MAX;
    if (read_text(dir, "memory.stat", text)) {
        static const char *const names[] = {"inactive_file", "active_file"},
                                 *const sums[] = {"total_inactive_file", "total_active_file"};
        for (int i = 0; i < 2; i++)
            if ((!v2 && value_of(text, sums[i], &part)) || value_of(text, names[i], &part))
                cache += part;
    }
    used -= LB_MIN(used, cache);
    return limit - LB_MIN(limit, used);
}

/* The least from the group's folder up to the mount. */
static u64 walk(const char *mount, lb_str group, bool v2, char *text) {
    char dir[LB_CGROUP_PATH_MAX];
    size_t root = strlen(mount);
    int n = snprintf(dir, sizeof dir, "%s%.*s", mount, LB_FMT(group));
    u64 best = UINT64_MAX;
    if (n < 0 || (size_t)n >= sizeof dir)
        dir[root] = 0;
    for (;;) {
        u64 left = group_left(dir, v2, text);
        best = LB_MIN(best, left);
        char *slash = strrchr(dir + root, '/');
        if (!slash)
            return best;
        *slash = 0;
    }
}

/* Is "memory" one of the comma-separated controllers? */
static bool names_memory(lb_str list) {
    size_t from = 0;
    for (size_t i = 0; i <= list.len; i++) {
        if (i < list.len && list.ptr[i] != ',')
            continue;
        if (lb_str_eq_c(lb_str_sub(list, from, i), "memory"))
            return true;
        from = i + 1;
    }
    return false;
}

static u64 groups_left(const char *root, char *text) {
    char lines[4096], path[256];
    u64 best = UINT64_MAX;
    if (!read_text(root, "proc/self/cgroup", text))
        return best;
    size_t n = LB_MIN(strlen(text), sizeof lines - 1);
    memcpy(lines, text, n);
    lines[n] = 0;
    /* Lines "hierarchy:controllers:path"; version 2 is "0::path". */
    char *rest = NULL;
    for (char *line = strtok_r(lines, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *a = strchr(line, ':'), *b = a ? strchr(a + 1, ':') : NULL;
        if (!b)
            continue;
        lb_str controllers = {a + 1, (size_t)(b - a) - 1}, group = lb_str_c(b + 1);
        bool v2 = controllers.len == 0;
        if (!v2 && !names_memory(controllers))
            continue;
        if (lb_str_eq_c(group, "/"))
            group = LB_STR_NONE;
        snprintf(path, sizeof path, "%s/sys/fs/cgroup%s", root, v2 ? "" : "/memory");
        u64 left = walk(path, group, v2, text);
        best = LB_MIN(best, left);
    }
    return best;
}

u64 lb_sys_memory_left(const char *root) {
    char text[TEXT_BYTES];
    u64 kib, best = lb_sys_memory_bytes();
    if (read_text(root, "proc/meminfo", text) && value_of(text, "MemAvailable", &kib))
        best = kib * 1024;
    u64 groups = groups_left(root, text);
    return LB_MIN(best, groups);
}
#else
u64 lb_sys_memory_left(const char *root) {
    (void)root;
    return lb_sys_memory_bytes() / 4 * 3;
}
#endif
