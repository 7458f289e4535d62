/* SPDX-License-Identifier: Apache-2.0 */
/* fake.h: a stand-in for Metal and the Objective-C runtime, for tests of src/device/metal*.c where
 * there is no Mac. objc.c is the runtime, objects.c devices, libraries and buffers, commands.c what
 * is submitted and in which order it runs, compile.c the kernels: the very text that was handed
 * over, compiled by clang. What Metal's own validation stops the program for stops it here, too.
 *
 * What a Mac may be, the environment chooses:
 *   STUB_METAL=none | nodefault | old | broken | missing | slow   no GPU, none by default, no
 *          selectors of macOS 14 and 15, a text that does not compile, no kernel `add`,
 * threadgroups of 64 threads STUB_METAL_FAMILY=N, STUB_METAL_ARCH=NAME   AppleN (8), the
 * architecture (applegpu_g14g) STUB_METAL_MEMORY=BYTES                     of the working set; 64
 * MiB STUB_METAL_LOST=N, STUB_METAL_FULL=N        the N-th kernel is a fault, runs out of memory
 *   STUB_METAL_SCHEDULE=N                       of the threads (device/cpu_fiber.h); 7
 */
#ifndef LB_TESTS_METAL_FAKE_H
#define LB_TESTS_METAL_FAKE_H

#include "device/cpu_fiber.h"
#include "device/metal_api.h"

#define LB_PUBLIC __attribute__((visibility("default")))
#define LB_METHOD static /* whose parameters are Metal's */

/* ---- objc.c ---- */

typedef struct fake_object fake_object;

typedef struct fake_method {
    int message; /* FAKE_..., as metal_api.def lists them */
    void (*run)(void);
} fake_method;

typedef struct fake_class {
    const char *name;
    const fake_method *methods; /* beside retain, release and respondsToSelector: */
    u32 n_methods;
    void (*destroy)(fake_object *);
} fake_class;

struct fake_object {
    const fake_class *isa; /* NULL: released */
    const char *was;
    u32 refs;
};

enum {
#define LB_MESSAGE(result, name, selector, parameters) FAKE_##name,
#include "device/metal_api.def"
#undef LB_MESSAGE
    FAKE_MESSAGES
};

/* A method whose function has exactly the message's types. */
#define FAKE_METHOD(name, function) \
    { FAKE_##name, (void (*)(void))(1 ? (function) : (lb_mtl_##name *)NULL) }

void fake_die(const char *format, ...) LB_PRINTF(1, 2) __attribute__((noreturn));
/* A new object of `bytes`, zero but for its head; counted until it is released. */
void *fake_new(const fake_class *isa, size_t bytes);
void *fake_retain(void *object);
void fake_release(void *object);
/* Goes with the pool; there must be one. */
void *fake_autorelease(void *object);
/* Stops unless it lives and is of the class; NULL is of none. */
void *fake_check(void *object, const fake_class *isa, const char *what);
void *fake_string(const char *text); /* autoreleased */
const char *fake_text(void *string);
void *fake_error(const char *text, long code); /* autoreleased */
bool fake_mode(const char *name);
u64 fake_number(const char *name, u64 otherwise);
/* Objects that were made and not released. */
LB_PUBLIC u32 lb_fake_metal_live(void);

/* ---- compile.c ---- */

enum { FAKE_READ, FAKE_WRITTEN, FAKE_VALUE };
#define FAKE_INDEX_MAX 31u

/* As tests/metal/kernels.awk writes it. */
typedef struct fake_kernel {
    const char *name;
    void (*call)(void *const *args, const u32 *place);
    char *shared, *shared_end; /* memory of threadgroups that no other kernel has; may be NULL */
    u32 n_bufs;
    struct {
        u32 index, kind;
        u64 bytes; /* of an element, of the values */
    } arg[FAKE_INDEX_MAX];
} fake_kernel;

typedef struct fake_library {
    fake_object head;
    void *dl;
    const fake_kernel *kernels;
    char *shared; /* memory of threadgroups that is all kernels' */
    u64 shared_bytes;
} fake_library;

/* Opens it, or returns false with the compiler's messages in log (free it). */
bool fake_compile(fake_library *l, const char *text, char **log);
/* All threadgroups; false: what a kernel may not do, in why. */
bool fake_run(const fake_library *l, const fake_kernel *k, void *const *args, const u32 groups[3],
              u32 n_threads, lb_err *why);

/* ---- objects.c ---- */

typedef struct fake_buffer {
    fake_object head;
    u8 *at;
    size_t bytes;
    bool owned;
} fake_buffer;

typedef struct fake_pipeline {
    fake_object head;
    fake_library *library;
    const fake_kernel *kernel;
} fake_pipeline;

typedef struct fake_event {
    fake_object head;
    u64 value;
} fake_event;

extern const fake_class fake_buffer_class, fake_pipeline_class, fake_event_class, fake_fence_class;
unsigned long fake_threads_max(void);

/* ---- commands.c ---- */

void *fake_new_queue(void);

#endif
