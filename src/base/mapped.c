/* SPDX-License-Identifier: Apache-2.0 */
/* mapped.c: see mapped.h. A signal handler can reach nothing but static objects: the table of
 * mapped files is one of the few allowed to change (tools/check_names.sh lists them). What it
 * prints of a file is made when the file is mapped. */
#include "base/mapped.h"
#include "base/tty.h"
#include "base/mem.h"
#include "base/os.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_MAX 4096u /* more of them are mapped, but not known to the handler */
#define NO_SLOT UINT32_MAX
#define RANGE_BYTES (16 * LB_MIB) /* that one call asks the system for */

typedef struct known {
    _Atomic uintptr_t base; /* 0: free */
    _Atomic u64 size_bytes;
    const char *_Atomic path, *_Atomic text;
} known;

static known files[FILES_MAX];
static const char *_Atomic doomed[2];
static atomic_bool dying, installed;
static struct sigaction was_bus, was_segv;

/* ---- in the handler: async-signal-safe functions alone ---- */

static void put(const char *text) {
    lb_os_write_text(STDERR_FILENO, lb_str_c(text));
}

static void put_number(u64 n) {
    char digits[24], *p = digits + sizeof digits - 1;
    *p = 0;
    do
        *--p = (char)('0' + n % 10);
    while (n /= 10);
    put(p);
}

static void tell(const known *k) {
    struct stat st;
    u64 size = atomic_load(&k->size_bytes);
    put("lbrx: ");
    put(atomic_load(&k->text));
    if (stat(atomic_load(&k->path), &st) == 0 && st.st_size >= 0 && (u64)st.st_size < size) {
        put(": was cut to ");
        put_number((u64)st.st_size);
        put(" bytes while it was in use: it had ");
        put_number(size);
    } else {
        put(": cannot be read any more where it is mapped: the disk or the network failed, or "
            "the file was cut");
    }
    put("\n");
}

static void on_fault(int sig, siginfo_t *info, void *context) {
    uintptr_t at = (uintptr_t)info->si_addr;
    (void)context;
    /* sent by a process, not by a read: si_addr says nothing */
    for (u32 i = 0; info->si_code > 0 && i < FILES_MAX; i++) {
        uintptr_t base = atomic_load(&files[i].base);
        if (!base || at < base || at - base >= atomic_load(&files[i].size_bytes))
            continue;
        while (atomic_exchange(&dying, true)) /* another thread tells it */
            (void)pause();
        lb_tty_restore();
        tell(&files[i]);
        for (int k = 0; k < 2; k++) {
            const char *path = atomic_load(&doomed[k]);
            if (path)
                (void)unlink(path);
        }
        _exit(lb_status_exit(LB_E_IO));
    }
    lb_tty_restore();
    /* as if there were no handler: the instruction is carried out again */
    (void)sigaction(sig, sig == SIGBUS ? &was_bus : &was_segv, NULL);
    if (info->si_code <= 0)
        (void)raise(sig);
}

void lb_mapped_install(void) {
    struct sigaction sa;
    if (atomic_exchange(&installed, true))
        return;
    memset(&sa, 0, sizeof sa);
    sa.sa_sigaction = on_fault;
    sa.sa_flags = SA_SIGINFO;
    (void)sigemptyset(&sa.sa_mask);
    (void)sigaction(SIGBUS, &sa, &was_bus);
    (void)sigaction(SIGSEGV, &sa, &was_segv);
}

void lb_mapped_remove_at_fault(const char *path, const char *other) {
    atomic_store(&doomed[0], path);
    atomic_store(&doomed[1], other);
}

/* ---- files ---- */

/* "name", and the same with control bytes as \xNN, so that it is one line. */
static char *texts_of(const char *name) {
    size_t n = strlen(name);
    char *out = lb_alloc(n + 1 + 4 * n + 1);
    if (!out)
        return NULL;
    memcpy(out, name, n + 1);
    char *at = out + n + 1;
    for (const u8 *p = (const u8 *)name; *p; p++)
        if (*p < 0x20 || *p == 0x7f)
            at += snprintf(at, 5, "\\x%02x", (unsigned)*p);
        else
            *at++ = (char)*p;
    *at = 0;
    return out;
}

static u32 take_slot(const lb_mapped *m) {
    for (u32 i = 0; i < FILES_MAX; i++) {
        uintptr_t none = 0;
        if (!atomic_compare_exchange_strong(&files[i].base, &none, UINTPTR_MAX))
            continue;
        atomic_store(&files[i].path, m->text);
        atomic_store(&files[i].text, m->text + strlen(m->text) + 1);
        atomic_store(&files[i].size_bytes, m->size_bytes);
        atomic_store(&files[i].base, (uintptr_t)m->base);
        return i;
    }
    return NO_SLOT;
}

lb_status lb_mapped_open(lb_mapped *m, int fd, const char *name, u64 size_bytes, lb_err *err) {
    *m = (lb_mapped){.fd = fd, .slot = NO_SLOT, .size_bytes = size_bytes};
    m->text = texts_of(name);
    m->base = lb_os_map_file(fd, size_bytes);
    if (m->text && m->base) {
        m->slot = take_slot(m);
        return LB_OK;
    }
    lb_status st = m->text
                       ? lb_fail(err, LB_E_IO, "%s: cannot be mapped: %s", name, strerror(errno))
                       : lb_fail(err, LB_E_NOMEM, "out of memory for the name of a file");
    lb_os_close(&fd);
    m->fd = -1;
    lb_mapped_close(m);
    return st;
}

void lb_mapped_close(lb_mapped *m) {
    if (m->base && m->slot != NO_SLOT)
        atomic_store(&files[m->slot].base, 0);
    lb_os_unmap(m->base, m->size_bytes);
    lb_free(m->text);
    if (m->base)
        lb_os_close(&m->fd);
    *m = (lb_mapped){0};
}

/* ---- pages ---- */

/* Whole pages that a range touches. */
static bool outer(const lb_mapped *m, u64 *off, u64 *len) {
    u64 page = lb_os_page_size(), end;
    if (!m->base || *off >= m->size_bytes || !*len)
        return false;
    end = *off + LB_MIN(*len, m->size_bytes - *off);
    *off -= *off % page;
    *len = end - *off;
    return true;
}

void lb_mapped_ahead(const lb_mapped *m, u64 off, u64 len) {
    if (!outer(m, &off, &len))
        return;
    for (u64 n; len; off += n, len -= n) {
        n = LB_MIN(len, RANGE_BYTES);
        if (m->fd >= 0)
            lb_os_readahead(m->fd, off, n);
        else
            (void)madvise(m->base + off, n, MADV_WILLNEED);
    }
}

void lb_mapped_fill(const lb_mapped *m, u64 off, u64 len) {
    if (!outer(m, &off, &len))
        return;
#if defined(MADV_POPULATE_READ)
    if (madvise(m->base + off, len, MADV_POPULATE_READ) == 0)
        return;
#endif
    /* an older system: a byte of each page */
    u64 page = lb_os_page_size();
    volatile u8 sum = 0;
    for (u64 i = 0; i < len; i += page)
        sum = (u8)(sum + m->base[off + i]);
}

/* Whole pages within a range; false: there are none. */
static bool inner(const lb_mapped *m, u64 *off, u64 *end) {
    u64 page = lb_os_page_size(), len = *end;
    if (!m->base || *off >= m->size_bytes)
        return false;
    *end = *off + LB_MIN(len, m->size_bytes - *off);
    *off = (*off + page - 1) / page * page;
    *end -= *end % page;
    return *off < *end;
}

void lb_mapped_let_go(const lb_mapped *m, u64 off, u64 len) {
    if (outer(m, &off, &len))
        (void)madvise(m->base + off, len, MADV_DONTNEED);
}

lb_status lb_mapped_read(const lb_mapped *m, void *to, u64 off, u64 len, lb_err *err) {
    struct stat st;
    if (m->fd < 0) { /* there were too many files to keep it */
        memcpy(to, m->base + off, len);
        lb_mapped_let_go(m, off, len);
        return LB_OK;
    }
    lb_status status = lb_os_pread(m->fd, m->text, to, len, off, err);
    if (status != LB_OK && fstat(m->fd, &st) == 0 && (u64)st.st_size < m->size_bytes)
        return lb_fail(err, LB_E_IO, "%s: was cut to %llu bytes while it was in use: it had %llu",
                       m->text, (unsigned long long)st.st_size, (unsigned long long)m->size_bytes);
    return status;
}

void lb_mapped_drop(const lb_mapped *m, u64 off, u64 len) {
    u64 end = len;
    if (!inner(m, &off, &end))
        return;
    (void)madvise(m->base + off, end - off, MADV_DONTNEED);
#if defined(POSIX_FADV_DONTNEED)
    if (m->fd >= 0)
        (void)posix_fadvise(m->fd, (off_t)off, (off_t)(end - off), POSIX_FADV_DONTNEED);
#endif
}

void lb_mapped_scattered(const lb_mapped *m, u64 off, u64 len) {
    if (outer(m, &off, &len))
        (void)madvise(m->base + off, len, MADV_RANDOM);
}

void lb_mapped_large_pages(const lb_mapped *m) {
#if defined(MADV_HUGEPAGE)
    if (m->base)
        (void)madvise(m->base, m->size_bytes, MADV_HUGEPAGE);
#else
    (void)m;
#endif
}

int lb_mapped_open_direct(const lb_mapped *m) {
#if defined(__linux__) && defined(O_DIRECT)
    char path[64];
    if (m->fd < 0)
        return -1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", m->fd); /* the same file, whatever its name */
    return open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
#else
    (void)m;
    return -1;
#endif
}

i64 lb_mapped_read_direct(int fd, void *to, u64 off, u64 len) {
    u64 done = 0;
    while (done < len) {
        ssize_t n = pread(fd, (u8 *)to + done, (size_t)(len - done), (off_t)(off + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        done += (u64)n;
        if (n == 0 || done % LB_DIRECT_BYTES)
            break;
    }
    return (i64)done;
}

u64 lb_mapped_present(const lb_mapped *m, u64 off, u64 len) {
    u64 page = lb_os_page_size(), n = 0;
    u8 there[1024];
    if (!outer(m, &off, &len))
        return 0;
    for (u64 part; len; off += part, len -= part) {
        part = LB_MIN(len, sizeof there * page);
        u64 pages = (part + page - 1) / page;
#if defined(__APPLE__)
        if (mincore(m->base + off, part, (char *)there) != 0)
#else
        if (mincore(m->base + off, part, there) != 0)
#endif
            return UINT64_MAX;
        for (u64 i = 0; i < pages; i++)
            n += (there[i] & 1) * LB_MIN(page, part - i * page);
    }
    return n;
}
