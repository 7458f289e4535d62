/* SPDX-License-Identifier: Apache-2.0 */
/* os.c: clock, terminal, memory and facts about the process. */
#include "base/os.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#if defined(__APPLE__)
#include <sys/random.h>
#endif

u64 lb_os_now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000000 + (u64)t.tv_nsec / 1000;
}

/* Days since 1970 of a date of the Gregorian calendar; month from 1. */
static i64 days_of(i64 year, i64 month, i64 day) {
    year -= month <= 2;
    i64 era = (year >= 0 ? year : year - 399) / 400, of_era = year - era * 400;
    i64 of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

i64 lb_os_local_time_us(void) {
    struct timespec t;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &t);
    if (!localtime_r(&t.tv_sec, &tm))
        return (i64)t.tv_sec * 1000000;
    i64 days = days_of(tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday);
    i64 seconds = ((days * 24 + tm.tm_hour) * 60 + tm.tm_min) * 60 + tm.tm_sec;
    return seconds * 1000000 + t.tv_nsec / 1000;
}

/* ru_maxrss would include what the process was before exec: Linux says the mapping's own peak. */
u64 lb_os_peak_rss(void) {
#if defined(__linux__)
    char text[4096];
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        (void)close(fd);
    if (n > 0) {
        text[n] = 0;
        const char *p = strstr(text, "\nVmHWM:");
        if (p)
            return strtoull(p + 7, NULL, 10) * LB_KIB;
    }
#endif
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) != 0)
        return 0;
#if defined(__APPLE__)
    return (u64)u.ru_maxrss; /* bytes there, KiB elsewhere */
#else
    return (u64)u.ru_maxrss * LB_KIB;
#endif
}

u64 lb_os_page_size(void) {
    long n = sysconf(_SC_PAGESIZE);
    return n > 0 ? (u64)n : 4096;
}

void lb_os_large_pages(void *ptr, u64 size_bytes) {
#if defined(MADV_HUGEPAGE)
    const u64 page = lb_os_page_size();
    u64 skip = (page - (uintptr_t)ptr % page) % page;
    if (size_bytes > skip)
        (void)madvise((u8 *)ptr + skip, (size_bytes - skip) / page * page, MADV_HUGEPAGE);
#else
    (void)ptr;
    (void)size_bytes;
#endif
}

const char *lb_os_env(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

u64 lb_os_max_open_files(void) {
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0)
        return 256;
    return (u64)r.rlim_cur;
}

void lb_os_random(void *out, size_t len) {
    u8 *p = out;
    for (size_t at = 0; at < len;) {
        size_t n = LB_MIN(len - at, (size_t)256); /* getentropy's limit */
        if (getentropy(p + at, n) != 0) {
            /* Refused by a sandbox: what differs from run to run must do. */
            u64 x = lb_os_now_us() ^ (u64)(uintptr_t)&x ^ (u64)getpid() << 40;
            for (size_t i = 0; i < n; i++) {
                x = x * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX generator */
                p[at + i] = (u8)(x >> 56);
            }
        }
        at += n;
    }
}

void lb_os_write_text(int fd, lb_str text) {
    while (text.len) {
        ssize_t n = write(fd, text.ptr, text.len);
        if (n > 0)
            text = lb_str_sub(text, (size_t)n, text.len);
        else if (n == 0 || errno != EINTR)
            return;
    }
}

bool lb_os_is_terminal(int fd) {
    return isatty(fd) == 1;
}

u32 lb_os_terminal_columns(int fd) {
    struct winsize w;
    if (ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col > 0)
        return w.ws_col;
    return 80;
}

void *lb_os_map_anon(u64 size_bytes) {
    if (size_bytes == 0 || size_bytes > SIZE_MAX)
        return NULL;
    void *p = mmap(NULL, (size_t)size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void *lb_os_map_file(int fd, u64 size_bytes) {
    if (size_bytes == 0 || size_bytes > SIZE_MAX)
        return NULL;
    void *p = mmap(NULL, (size_t)size_bytes, PROT_READ, MAP_SHARED, fd, 0);
    return p == MAP_FAILED ? NULL : p;
}

void *lb_os_map_temp(int fd, u64 size_bytes) {
    if (size_bytes == 0 || size_bytes > SIZE_MAX || size_bytes > INT64_MAX ||
        ftruncate(fd, (off_t)size_bytes) != 0)
        return NULL;
    void *p = mmap(NULL, (size_t)size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return p == MAP_FAILED ? NULL : p;
}

void lb_os_unmap(void *ptr, u64 size_bytes) {
    if (ptr)
        (void)munmap(ptr, (size_t)size_bytes);
}
