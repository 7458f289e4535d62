/* SPDX-License-Identifier: Apache-2.0 */
/* run.c: runs a program for macOS on 64-bit Arm under Linux (or its emulator): the segments are
 * mapped at their own addresses, what the program takes of libSystem is bound to shims.c or to the
 * C library's own functions, and main is called. What has no shim ends the program by name when it
 * is called. For `lbrx selftest`: no threads' variables, no initialisers, errno as Linux has it. */
#include "shims.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 16384u
#define SEGMENTS_MAX 16u
#define IMPORTS_MAX 4096u

enum { SEGMENT = 0x19, DYLD_INFO = 0x80000022, FIXUPS = 0x80000034, MAIN = 0x80000028 };

typedef struct image {
    const uint8_t *file;
    size_t bytes;
    uint64_t segment[SEGMENTS_MAX]; /* addresses */
    uint32_t n_segments;
    uint64_t base, entry; /* of __TEXT; of main from there */
    const uint8_t *info, *fixups;
} image;

static _Noreturn void stop(const char *what, const char *name) {
    (void)fprintf(stderr, "macho: %s%s%s\n", what, *name ? ": " : "", name);
    exit(4);
}

static uint32_t u32_at(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint64_t u64_at(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* ---- imports ---- */

static void missing(const char *name) {
    stop("no shim for", name);
}

/* A few instructions that call missing(name): ldr x0, name; ldr x1, missing; br x1. */
static uint64_t trap(const char *name) {
    static uint8_t *room;
    static size_t used;
    const uint32_t code[4] = {0x58000080, 0x580000a1, 0xd61f0020, 0xd503201f};
    const uint64_t data[2] = {(uint64_t)(uintptr_t)name, (uint64_t)(uintptr_t)missing};
    if (!room) {
        room = mmap(NULL, 32 * IMPORTS_MAX, PROT_READ | PROT_WRITE | PROT_EXEC,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (room == MAP_FAILED)
            stop("out of memory", "");
    }
    if (used == 32 * IMPORTS_MAX)
        stop("too many imports", name);
    uint8_t *at = room + used;
    memcpy(at, code, 16);
    memcpy(at + 16, data, 16);
    __builtin___clear_cache((char *)at, (char *)at + 32);
    used += 32;
    return (uint64_t)(uintptr_t)at;
}

static uint64_t resolve(const char *name) {
    void *at = shim_find(name);
    return at ? (uint64_t)(uintptr_t)at : trap(name);
}

/* ---- dyld's information: opcodes ---- */

static uint64_t uleb(const uint8_t **p) {
    uint64_t v = 0;
    for (unsigned shift = 0;; shift += 7) {
        const uint8_t b = *(*p)++;
        v |= (uint64_t)(b & 127u) << shift;
        if (b < 128)
            return v;
    }
}

static void put(uint64_t at, const char *name, int64_t addend) {
    const uint64_t v = resolve(name) + (uint64_t)addend;
    memcpy((void *)(uintptr_t)at, &v, sizeof v);
}

static int64_t sleb(const uint8_t **p) {
    int64_t v = 0;
    unsigned shift = 0;
    uint8_t b;
    do {
        b = *(*p)++;
        v |= (int64_t)(b & 127u) << shift;
        shift += 7;
    } while (b >= 128);
    return shift < 64 && (b & 64u) ? v - ((int64_t)1 << shift) : v;
}

static void bind(const image *m, uint32_t off, uint32_t bytes, int lazy) {
    const uint8_t *p = m->file + off, *end = p + bytes;
    const char *name = "";
    uint64_t at = 0;
    int64_t addend = 0;
    while (p < end) {
        const uint8_t op = *p & 0xf0u, low = *p & 15u;
        p++;
        if (op == 0x00) { /* done; between lazy ones */
            if (!lazy)
                return;
        } else if (op == 0x20) { /* library: there is one */
            (void)uleb(&p);
        } else if (op == 0x40) {
            name = (const char *)p;
            p += strlen(name) + 1;
        } else if (op == 0x60) {
            addend = sleb(&p);
        } else if (op == 0x70) {
            at = m->segment[low] + uleb(&p);
        } else if (op == 0x80) {
            at += uleb(&p);
        } else if (op == 0x90 || op == 0xa0 || op == 0xb0) {
            put(at, name, addend);
            at += 8 + (op == 0xa0 ? uleb(&p) : op == 0xb0 ? low * 8u : 0);
        } else if (op == 0xc0) {
            const uint64_t n = uleb(&p), skip = uleb(&p);
            for (uint64_t i = 0; i < n; i++, at += 8 + skip)
                put(at, name, addend);
        } else if (op != 0x10 && op != 0x30 && op != 0x50) {
            stop("an opcode of a binding is unknown", "");
        }
    }
}

/* ---- chained fixups, 64-bit pointers with offsets or addresses ---- */

static const char *import_name(const uint8_t *f, uint32_t i) {
    const uint32_t imports = u32_at(f + 8), symbols = u32_at(f + 12), format = u32_at(f + 20);
    if (format != 1)
        stop("imports of another form", "");
    return (const char *)(f + symbols + (u32_at(f + imports + 4 * i) >> 9));
}

static void chain(const image *m, const uint8_t *f, uint64_t at, uint16_t format) {
    for (;;) {
        const uint64_t v = u64_at((const uint8_t *)(uintptr_t)at);
        const uint64_t next = v >> 51 & 0xfffu;
        if (v >> 63) {
            put(at, import_name(f, (uint32_t)(v & 0xffffffu)), (int64_t)(v >> 24 & 0xffu));
        } else {
            const uint64_t target = (v & 0xfffffffffu) | (v >> 36 & 0xffu) << 56;
            const uint64_t to = format == 6 ? m->base + target : target;
            memcpy((void *)(uintptr_t)at, &to, sizeof to);
        }
        if (!next)
            return;
        at += 4 * next;
    }
}

static void fix_chains(const image *m, const uint8_t *f) {
    const uint8_t *starts = f + u32_at(f + 4);
    for (uint32_t s = 0; s < u32_at(starts); s++) {
        const uint32_t off = u32_at(starts + 4 + 4 * s);
        if (!off)
            continue;
        const uint8_t *seg = starts + off;
        uint16_t page, format, count;
        memcpy(&page, seg + 4, 2);
        memcpy(&format, seg + 6, 2);
        memcpy(&count, seg + 20, 2);
        if (format != 2 && format != 6)
            stop("pointers of another form", "");
        for (uint32_t i = 0; i < count; i++) {
            uint16_t start;
            memcpy(&start, seg + 22 + 2 * i, 2);
            if (start != 0xffff)
                chain(m, f, m->segment[s] + (uint64_t)i * page + start, format);
        }
    }
}

/* ---- the file ---- */

static void map_segment(image *m, const uint8_t *c) {
    const uint64_t address = u64_at(c + 24), room = u64_at(c + 32), off = u64_at(c + 40);
    const uint64_t bytes = u64_at(c + 48);
    const uint32_t protection = u32_at(c + 60);
    if (m->n_segments == SEGMENTS_MAX || off > m->bytes || bytes > m->bytes - off || bytes > room)
        stop("a segment is outside of the file", (const char *)c + 8);
    m->segment[m->n_segments++] = address;
    if (memcmp(c + 8, "__TEXT", 7) == 0)
        m->base = address;
    if (!protection)
        return;
    const size_t length = (room + PAGE - 1) / PAGE * PAGE;
    void *at = mmap((void *)(uintptr_t)address, length, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (at != (void *)(uintptr_t)address)
        stop("a segment's addresses are taken", (const char *)c + 8);
    memcpy(at, m->file + off, bytes);
    if (protection & 4u) {
        __builtin___clear_cache(at, (char *)at + length);
        if (mprotect(at, length, PROT_READ | PROT_EXEC) != 0)
            stop("a segment cannot be made executable", "");
    }
}

static void load(image *m, const char *path) {
    struct stat s;
    const int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &s) != 0)
        stop("cannot be read", path);
    m->bytes = (size_t)s.st_size;
    m->file = mmap(NULL, m->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (m->file == MAP_FAILED || m->bytes < 32 || u32_at(m->file) != 0xfeedfacf ||
        u32_at(m->file + 4) != 0x0100000c)
        stop("no program for arm64 macOS", path);
    const uint8_t *c = m->file + 32;
    for (uint32_t i = 0; i < u32_at(m->file + 16); i++, c += u32_at(c + 4)) {
        const uint32_t command = u32_at(c);
        if (command == SEGMENT)
            map_segment(m, c);
        else if (command == (uint32_t)DYLD_INFO)
            m->info = c;
        else if (command == (uint32_t)FIXUPS)
            m->fixups = m->file + u32_at(c + 8);
        else if (command == (uint32_t)MAIN)
            m->entry = u64_at(c + 8);
    }
}

int main(int argc, char **argv) {
    image m = {0};
    if (argc < 2)
        stop("usage: run PROGRAM [ARGUMENT...]", "");
    load(&m, argv[1]);
    if (m.info) {
        bind(&m, u32_at(m.info + 16), u32_at(m.info + 20), 0);
        bind(&m, u32_at(m.info + 32), u32_at(m.info + 36), 1);
    }
    if (m.fixups)
        fix_chains(&m, m.fixups);
    if (!m.base || !m.entry)
        stop("no entry point", argv[1]);
    int (*entry)(int, char **, char **);
    const uint64_t at = m.base + m.entry;
    memcpy(&entry, &at, sizeof entry);
    const int code = entry(argc - 1, argv + 1, environ);
    (void)fflush(NULL);
    exit(code);
}
