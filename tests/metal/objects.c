/* SPDX-License-Identifier: Apache-2.0 */
/* objects.c: the device, its buffers, libraries and pipelines, events and fences. */
#include "base/os.h"
#include "fake.h"
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS_SHARED_UNTRACKED 0x100ul

static u64 device_bytes;

static u64 memory(void) {
    return fake_number("STUB_METAL_MEMORY", 64 * LB_MIB);
}

/* ---- buffers ---- */

static void destroy_buffer(fake_object *o) {
    fake_buffer *b = (fake_buffer *)o;
    if (b->owned) {
        device_bytes -= b->bytes;
        free(b->at);
    }
}

static void *contents(void *self, void *cmd) {
    (void)cmd;
    return ((fake_buffer *)self)->at;
}

static const fake_method buffer_methods[] = {FAKE_METHOD(contents, contents)};
const fake_class fake_buffer_class = {"MTLBuffer", buffer_methods, LB_LEN(buffer_methods),
                                      destroy_buffer};

static unsigned long buffer_max(void *self, void *cmd) {
    (void)self;
    (void)cmd;
    return (unsigned long)(memory() / 4 * 3);
}

static void *new_buffer(void *self, void *cmd, unsigned long bytes, unsigned long options) {
    (void)self;
    (void)cmd;
    if (bytes == 0 || bytes > buffer_max(NULL, NULL) || options != OPTIONS_SHARED_UNTRACKED)
        fake_die("newBufferWithLength: %lu bytes, options %#lx", bytes, options);
    if (bytes > 2 * memory() - device_bytes) /* the system itself has more than the working set */
        return NULL;
    fake_buffer *b = fake_new(&fake_buffer_class, sizeof *b);
    b->at = aligned_alloc(16384, lb_round_up(bytes, 16384));
    if (!b->at)
        fake_die("out of memory");
    memset(b->at, 0xff, bytes);
    b->bytes = bytes;
    b->owned = true;
    device_bytes += bytes;
    return b;
}

static void *new_mapped(void *self, void *cmd, void *pages, unsigned long bytes,
                        unsigned long options, void *block) {
    const size_t page = lb_os_page_size();
    (void)self;
    (void)cmd;
    if ((uintptr_t)pages % page || bytes % page || bytes == 0 || bytes > buffer_max(NULL, NULL) ||
        options != OPTIONS_SHARED_UNTRACKED || block)
        fake_die("newBufferWithBytesNoCopy: %lu bytes, options %#lx: not whole pages, or too long",
                 bytes, options);
    if (fake_mode("nomap"))
        return NULL;
    fake_buffer *b = fake_new(&fake_buffer_class, sizeof *b);
    b->at = pages;
    b->bytes = bytes;
    return b;
}

/* ---- events, fences ---- */

const fake_class fake_event_class = {"MTLEvent", NULL, 0, NULL};
const fake_class fake_fence_class = {"MTLFence", NULL, 0, NULL};

static void *new_event(void *self, void *cmd) {
    (void)self;
    (void)cmd;
    return fake_new(&fake_event_class, sizeof(fake_event));
}

static void *new_fence(void *self, void *cmd) {
    (void)self;
    (void)cmd;
    return fake_new(&fake_fence_class, sizeof(fake_object));
}

static void *new_queue(void *self, void *cmd) {
    (void)self;
    (void)cmd;
    return fake_new_queue();
}

/* ---- libraries ---- */

typedef struct fake_options {
    fake_object head;
    bool exact;
    unsigned long language;
} fake_options;

static void fast_math(void *self, void *cmd, bool on) {
    (void)cmd;
    ((fake_options *)self)->exact = !on;
}

static void math_mode(void *self, void *cmd, long mode) {
    (void)cmd;
    ((fake_options *)self)->exact = mode == LB_MTL_MATH_SAFE;
}

static void language(void *self, void *cmd, unsigned long version) {
    (void)cmd;
    ((fake_options *)self)->language = version;
}

static const fake_method options_methods[] = {FAKE_METHOD(fast_math, fast_math),
                                              FAKE_METHOD(math_mode, math_mode),
                                              FAKE_METHOD(language, language)};
static const fake_class options_class = {"MTLCompileOptions", options_methods,
                                         LB_LEN(options_methods), NULL};

static void destroy_pipeline(fake_object *o) {
    fake_release(((fake_pipeline *)o)->library);
}

unsigned long fake_threads_max(void) {
    return fake_mode("slow") ? 64 : LB_FIBER_THREADS_MAX;
}

static unsigned long threads_max(void *self, void *cmd) {
    (void)self;
    (void)cmd;
    return fake_threads_max();
}

static unsigned long simd_width(void *self, void *cmd) {
    (void)self;
    (void)cmd;
    return LB_FIBER_SIMD;
}

static const fake_method pipeline_methods[] = {FAKE_METHOD(threads_max, threads_max),
                                               FAKE_METHOD(simd_width, simd_width)};
const fake_class fake_pipeline_class = {"MTLComputePipelineState", pipeline_methods,
                                        LB_LEN(pipeline_methods), destroy_pipeline};
/* A function is a pipeline that has not been made yet. */
static const fake_class function_class = {"MTLFunction", NULL, 0, destroy_pipeline};

static void destroy_library(fake_object *o) {
    (void)dlclose(((fake_library *)o)->dl);
}

static void *new_function(void *self, void *cmd, void *name) {
    fake_library *l = self;
    (void)cmd;
    for (const fake_kernel *k = l->kernels; k->name; k++)
        if (strcmp(k->name, fake_text(name)) == 0 &&
            !(fake_mode("missing") && strcmp(k->name, "add") == 0)) {
            fake_pipeline *f = fake_new(&function_class, sizeof *f);
            f->library = fake_retain(l);
            f->kernel = k;
            return f;
        }
    return NULL;
}

static const fake_method library_methods[] = {FAKE_METHOD(new_function, new_function)};
static const fake_class library_class = {"MTLLibrary", library_methods, LB_LEN(library_methods),
                                         destroy_library};

static void *new_library(void *self, void *cmd, void *text, void *options, void **error) {
    const fake_options *o = fake_check(options, &options_class, "newLibraryWithSource: options");
    char *log = NULL;
    (void)self;
    (void)cmd;
    if (!o->exact || o->language != LB_MTL_LANGUAGE_3_0)
        fake_die("newLibraryWithSource: without exact arithmetic, or of another language");
    fake_library *l = fake_new(&library_class, sizeof *l);
    if (fake_compile(l, fake_text(text), &log))
        return l;
    *error = fake_error(log, 3);
    free(log);
    l->dl = dlopen(NULL, RTLD_NOW);
    fake_release(l);
    return NULL;
}

static void *new_pipeline(void *self, void *cmd, void *function, void **error) {
    const fake_pipeline *f = fake_check(function, &function_class, "a pipeline's function");
    (void)self;
    (void)cmd;
    if (fake_mode("nopipeline")) {
        *error = fake_error("the function uses too much of everything", 2);
        return NULL;
    }
    fake_pipeline *p = fake_new(&fake_pipeline_class, sizeof *p);
    p->library = fake_retain(f->library);
    p->kernel = f->kernel;
    return p;
}

/* ---- the device ---- */

static const fake_class architecture_class;

static void *name(void *self, void *cmd) {
    const fake_object *o = self;
    const char *arch = getenv("STUB_METAL_ARCH");
    (void)cmd;
    if (o->isa == &architecture_class)
        return fake_string(arch ? arch : "applegpu_g14g");
    return fake_string("Stub \x1b Apple GPU");
}

static const fake_method architecture_methods[] = {FAKE_METHOD(name, name)};
static const fake_class architecture_class = {"MTLArchitecture", architecture_methods,
                                              LB_LEN(architecture_methods), NULL};

static void *architecture(void *self, void *cmd) {
    (void)self;
    (void)cmd;
    return fake_autorelease(fake_new(&architecture_class, sizeof(fake_object)));
}

static bool unified(void *self, void *cmd) {
    (void)self;
    (void)cmd;
    return true;
}

static bool family(void *self, void *cmd, long f) {
    const long own = (long)fake_number("STUB_METAL_FAMILY", 8);
    (void)self;
    (void)cmd;
    return (f > 1000 && f <= 1000 + own) || (f == 5001 && own >= 7) || (f == 5002 && own >= 10);
}

static uint64_t working_set(void *self, void *cmd) {
    (void)self;
    (void)cmd;
    return memory();
}

static unsigned long allocated(void *self, void *cmd) {
    (void)self;
    (void)cmd;
    return (unsigned long)device_bytes;
}

static unsigned long shared_max(void *self, void *cmd) {
    (void)self;
    (void)cmd;
    return LB_FIBER_SHARED_BYTES;
}

static const fake_method device_methods[] = {
    FAKE_METHOD(name, name),
    FAKE_METHOD(architecture, architecture),
    FAKE_METHOD(unified, unified),
    FAKE_METHOD(family, family),
    FAKE_METHOD(working_set, working_set),
    FAKE_METHOD(allocated, allocated),
    FAKE_METHOD(buffer_max, buffer_max),
    FAKE_METHOD(shared_max, shared_max),
    FAKE_METHOD(new_queue, new_queue),
    FAKE_METHOD(new_event, new_event),
    FAKE_METHOD(new_fence, new_fence),
    FAKE_METHOD(new_buffer, new_buffer),
    FAKE_METHOD(new_mapped, new_mapped),
    FAKE_METHOD(new_library, new_library),
    FAKE_METHOD(new_pipeline, new_pipeline),
};
static const fake_class device_class = {"MTLDevice", device_methods, LB_LEN(device_methods), NULL};

LB_PUBLIC void *MTLCreateSystemDefaultDevice(void);
LB_PUBLIC void *MTLCreateSystemDefaultDevice(void) {
    return fake_mode("none") || fake_mode("nodefault")
               ? NULL
               : fake_new(&device_class, sizeof(fake_object));
}

typedef struct fake_array {
    fake_object head;
    void *first;
} fake_array;

static void destroy_array(fake_object *o) {
    if (((fake_array *)o)->first)
        fake_release(((fake_array *)o)->first);
}

static unsigned long count(void *self, void *cmd) {
    (void)cmd;
    return ((fake_array *)self)->first ? 1 : 0;
}

static void *at(void *self, void *cmd, unsigned long i) {
    if (i >= count(self, cmd))
        fake_die("objectAtIndex: %lu of %lu", i, count(self, cmd));
    return ((fake_array *)self)->first;
}

static const fake_method array_methods[] = {FAKE_METHOD(count, count), FAKE_METHOD(at, at)};
static const fake_class array_class = {"NSArray", array_methods, LB_LEN(array_methods),
                                       destroy_array};

LB_PUBLIC void *MTLCopyAllDevices(void);
LB_PUBLIC void *MTLCopyAllDevices(void) {
    fake_array *a = fake_new(&array_class, sizeof *a);
    if (!fake_mode("none"))
        a->first = fake_new(&device_class, sizeof(fake_object));
    return a;
}

/* ---- classes as objects ---- */

static void *string(void *self, void *cmd, const char *text) {
    (void)self;
    (void)cmd;
    return fake_string(text);
}

static void *make_options(void *self, void *cmd) {
    (void)self;
    (void)cmd;
    return fake_new(&options_class, sizeof(fake_options));
}

LB_PUBLIC void *objc_getClass(const char *class_name);
LB_PUBLIC void *objc_getClass(const char *class_name) {
    static const fake_method string_own[] = {FAKE_METHOD(string, string)};
    static const fake_method options_own[] = {FAKE_METHOD(make, make_options)};
    static const fake_class string_meta = {"NSString class", string_own, 1, NULL};
    static const fake_class options_meta = {"MTLCompileOptions class", options_own, 1, NULL};
    static fake_object classes[] = {{&string_meta, "NSString class", 1},
                                    {&options_meta, "MTLCompileOptions class", 1}};
    return strcmp(class_name, "NSString") == 0            ? &classes[0]
           : strcmp(class_name, "MTLCompileOptions") == 0 ? &classes[1]
                                                          : NULL;
}
