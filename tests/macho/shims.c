/* SPDX-License-Identifier: Apache-2.0 */
/* shims.c: libSystem's functions where they differ from Linux's: arguments after "..." lie on the
 * stack, constants and records have other values and layouts, a mutex may begin as Apple's. What is
 * the same in both is taken from the C library by name, from a list: nothing goes through by
 * accident. */
#include "shims.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- arguments on the stack: a va_list of AAPCS64 whose registers are used up ---- */

typedef union stacked {
    struct {
        void *stack, *general, *vector;
        int general_off, vector_off;
    } raw;
    va_list list;
} stacked;

static void stack_list(stacked *s, void *at) {
    memset(s, 0, sizeof *s);
    s->raw.stack = at;
}

/* Used by the few lines of assembly below. */
int shim_vsnprintf(char *out, size_t room, const char *format, void *at);
int shim_vsprintf(char *out, const char *format, void *at);
int shim_vfprintf(FILE *f, const char *format, void *at);
int shim_vopen(const char *path, int flags, const int *at);
int shim_vfcntl(int fd, int command, const int *at);
int shim_vioctl(int fd, unsigned long request, void *const *at);

int shim_vsnprintf(char *out, size_t room, const char *format, void *at) {
    stacked s;
    stack_list(&s, at);
    return vsnprintf(out, room, format, s.list);
}

int shim_vsprintf(char *out, const char *format, void *at) {
    stacked s;
    stack_list(&s, at);
    return vsprintf(out, format, s.list);
}

int shim_vfprintf(FILE *f, const char *format, void *at) {
    stacked s;
    stack_list(&s, at);
    return vfprintf(f, format, s.list);
}

int shim_vopen(const char *path, int flags, const int *at) {
    static const int bits[][2] = {
        {0x4, O_NONBLOCK}, {0x8, O_APPEND}, {0x100, O_NOFOLLOW},     {0x200, O_CREAT},
        {0x400, O_TRUNC},  {0x800, O_EXCL}, {0x100000, O_DIRECTORY}, {0x1000000, O_CLOEXEC}};
    int own = flags & O_ACCMODE;
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++)
        own |= flags & bits[i][0] ? bits[i][1] : 0;
    return open(path, own, flags & 0x200 ? *at : 0);
}

/* The commands up to F_SETFL have the same numbers; advice and preallocation do nothing. */
int shim_vfcntl(int fd, int command, const int *at) {
    return command <= F_SETFL ? fcntl(fd, command, *at) : 0;
}

/* No terminal. */
int shim_vioctl(int fd, unsigned long request, void *const *at) {
    (void)fd;
    (void)request;
    (void)at;
    errno = ENOTTY;
    return -1;
}

extern char shim_snprintf[], shim_sprintf[], shim_fprintf[], shim_open[], shim_fcntl[],
    shim_ioctl[];
__asm__(".text\n.p2align 2\n"
        "shim_snprintf: mov x3,sp\nb shim_vsnprintf\n"
        "shim_sprintf: mov x2,sp\nb shim_vsprintf\n"
        "shim_fprintf: mov x2,sp\nb shim_vfprintf\n"
        "shim_open: mov x2,sp\nb shim_vopen\n"
        "shim_fcntl: mov x2,sp\nb shim_vfcntl\n"
        "shim_ioctl: mov x2,sp\nb shim_vioctl\n");

/* ---- memory ---- */

static void *shim_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t off) {
    int own = flags & (MAP_SHARED | MAP_PRIVATE | MAP_FIXED);
    own |= flags & 0x1000 ? MAP_ANONYMOUS : 0;
    return mmap(at, bytes, protection, own, fd, off);
}

static int shim_madvise(void *at, size_t bytes, int advice) {
    (void)at;
    (void)bytes;
    (void)advice;
    return 0;
}

static void shim_pattern16(void *out, const void *pattern, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        ((uint8_t *)out)[i] = ((const uint8_t *)pattern)[i % 16];
}

static void shim_bzero(void *out, size_t bytes) {
    memset(out, 0, bytes);
}

/* ---- the system ---- */

static void *shim_dlopen(const char *path, int flags) {
    return dlopen(path, (flags & 3) | (flags & 8 ? RTLD_GLOBAL : 0));
}

static long shim_sysconf(int name) {
    return name == 29                 ? sysconf(_SC_PAGESIZE)
           : name == 57 || name == 58 ? sysconf(_SC_NPROCESSORS_ONLN)
           : name == 200              ? sysconf(_SC_PHYS_PAGES)
           : name == 5                ? sysconf(_SC_OPEN_MAX)
                                      : -1;
}

/* A processor of no name and no features beyond the base. */
static int shim_sysctlbyname(const char *name, void *out, size_t *bytes, void *in,
                             size_t in_bytes) {
    const uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    (void)in;
    (void)in_bytes;
    if (strcmp(name, "hw.memsize") == 0 && *bytes == sizeof memory) {
        memcpy(out, &memory, sizeof memory);
        return 0;
    }
    errno = ENOENT;
    return -1;
}

static int shim_clock_gettime(int clock, struct timespec *out) {
    return clock_gettime(clock == 0 ? CLOCK_REALTIME : CLOCK_MONOTONIC, out);
}

static int shim_nothing(void) {
    return 0;
}

static int *shim_error(void) {
    return &errno;
}

typedef struct apple_stat {
    int32_t dev;
    uint16_t mode, links;
    uint64_t inode;
    uint32_t uid, gid;
    int32_t rdev, pad;
    struct timespec accessed, modified, changed, born;
    int64_t size, blocks;
    int32_t block_bytes;
    uint32_t flags, generation, spare;
    int64_t spares[2];
} apple_stat;

static int convert(int code, const struct stat *s, apple_stat *out) {
    if (code == 0)
        *out = (apple_stat){.dev = (int32_t)s->st_dev,
                            .mode = (uint16_t)s->st_mode,
                            .links = (uint16_t)s->st_nlink,
                            .inode = s->st_ino,
                            .uid = s->st_uid,
                            .gid = s->st_gid,
                            .accessed = s->st_atim,
                            .modified = s->st_mtim,
                            .changed = s->st_ctim,
                            .size = s->st_size,
                            .blocks = s->st_blocks,
                            .block_bytes = s->st_blksize};
    return code;
}

static int shim_stat(const char *path, apple_stat *out) {
    struct stat s;
    return convert(stat(path, &s), &s, out);
}

static int shim_lstat(const char *path, apple_stat *out) {
    struct stat s;
    return convert(lstat(path, &s), &s, out);
}

static int shim_fstat(int fd, apple_stat *out) {
    struct stat s;
    return convert(fstat(fd, &s), &s, out);
}

static int shim_getrlimit(int which, struct rlimit *out) {
    const int code = getrlimit(which == 8   ? RLIMIT_NOFILE
                               : which == 5 ? RLIMIT_AS
                                            : RLIMIT_DATA,
                               out);
    if (code == 0 && out->rlim_cur == RLIM_INFINITY)
        out->rlim_cur = INT64_MAX;
    return code;
}

/* ---- threads: 64 bytes of mutex hold Linux's 48, once the first words are not Apple's ---- */

#define APPLE_MUTEX 0x32aaaba7u
#define APPLE_CONDITION 0x3cb0b1bbu

static void renew(void *object, uint32_t apple, size_t bytes) {
    uint64_t head;
    memcpy(&head, object, sizeof head);
    if (head == apple)
        memset(object, 0, bytes);
}

static int shim_mutex_lock(pthread_mutex_t *m) {
    renew(m, APPLE_MUTEX, sizeof *m);
    return pthread_mutex_lock(m);
}

static int shim_cond_wait(pthread_cond_t *c, pthread_mutex_t *m) {
    renew(c, APPLE_CONDITION, sizeof *c);
    return pthread_cond_wait(c, m);
}

static int shim_cond_broadcast(pthread_cond_t *c) {
    renew(c, APPLE_CONDITION, sizeof *c);
    return pthread_cond_broadcast(c);
}

static int shim_once(uint64_t *once, void (*run)(void)) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    (void)pthread_mutex_lock(&lock);
    if (once[0])
        run();
    once[0] = 0;
    return pthread_mutex_unlock(&lock);
}

/* ---- the table ---- */

static FILE *err_file, *out_file;

static const char *const same[] = {"_memcpy",
                                   "_memmove",
                                   "_memset",
                                   "_memcmp",
                                   "_memchr",
                                   "_strlen",
                                   "_strcmp",
                                   "_strncmp",
                                   "_strchr",
                                   "_strstr",
                                   "_strcspn",
                                   "_strnlen",
                                   "_strerror",
                                   "_strdup",
                                   "_qsort",
                                   "_bsearch",
                                   "_malloc",
                                   "_calloc",
                                   "_realloc",
                                   "_free",
                                   "_getenv",
                                   "_exp",
                                   "_log1p",
                                   "_getpid",
                                   "_getentropy",
                                   "_write",
                                   "_read",
                                   "_pread",
                                   "_close",
                                   "_isatty",
                                   "_munmap",
                                   "_fwrite",
                                   "_fputs",
                                   "_fputc",
                                   "_fflush",
                                   "_ferror",
                                   "_exit",
                                   "__exit",
                                   "_abort",
                                   "_dlsym",
                                   "_dlclose",
                                   "_dlerror",
                                   "___memcpy_chk",
                                   "___memset_chk",
                                   "___memmove_chk",
                                   "_pthread_join",
                                   "_pthread_create",
                                   "_getrusage",
                                   "_localtime_r",
                                   "_pthread_mutex_init",
                                   "_pthread_mutex_destroy",
                                   "_pthread_cond_init",
                                   "_pthread_cond_destroy",
                                   "_pthread_attr_init",
                                   "_pthread_attr_destroy",
                                   "_pthread_attr_setstacksize",
                                   "_unlink",
                                   "_rename",
                                   "_strpbrk"};

typedef void (*function)(void);
#define FUNCTION(name, shim) \
    { name, (function)(shim), NULL }
#define ADDRESS(name, shim) \
    { name, NULL, shim }
static const struct {
    const char *name;
    function call;
    void *at;
} shims[] = {
    ADDRESS("_snprintf", shim_snprintf),
    ADDRESS("_sprintf", shim_sprintf),
    ADDRESS("_fprintf", shim_fprintf),
    ADDRESS("_open", shim_open),
    ADDRESS("_fcntl", shim_fcntl),
    ADDRESS("_ioctl", shim_ioctl),
    ADDRESS("___stderrp", &err_file),
    ADDRESS("___stdoutp", &out_file),
    FUNCTION("_vsnprintf", shim_vsnprintf),
    FUNCTION("_mmap", shim_mmap),
    FUNCTION("_madvise", shim_madvise),
    FUNCTION("_memset_pattern16", shim_pattern16),
    FUNCTION("_bzero", shim_bzero),
    FUNCTION("_malloc_size", malloc_usable_size),
    FUNCTION("_dlopen", shim_dlopen),
    FUNCTION("_sysconf", shim_sysconf),
    FUNCTION("_sysctlbyname", shim_sysctlbyname),
    FUNCTION("_clock_gettime", shim_clock_gettime),
    FUNCTION("_sigaction", shim_nothing),
    FUNCTION("_sigprocmask", shim_nothing),
    FUNCTION("___error", shim_error),
    FUNCTION("_stat", shim_stat),
    FUNCTION("_lstat", shim_lstat),
    FUNCTION("_fstat", shim_fstat),
    FUNCTION("_getrlimit", shim_getrlimit),
    FUNCTION("_pthread_mutex_lock", shim_mutex_lock),
    FUNCTION("_pthread_mutex_unlock", pthread_mutex_unlock),
    FUNCTION("_pthread_cond_wait", shim_cond_wait),
    FUNCTION("_pthread_cond_broadcast", shim_cond_broadcast),
    FUNCTION("_pthread_once", shim_once),
};

void *shim_find(const char *name) {
    void *at = NULL;
    err_file = stderr;
    out_file = stdout;
    for (size_t i = 0; i < sizeof shims / sizeof *shims; i++)
        if (strcmp(shims[i].name, name) == 0) {
            if (shims[i].call)
                memcpy(&at, &shims[i].call, sizeof at);
            else
                at = shims[i].at;
            return at;
        }
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        if (strcmp(same[i], name) == 0)
            return dlsym(RTLD_DEFAULT, name + 1);
    return NULL;
}
