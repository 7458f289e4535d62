/* SPDX-License-Identifier: Apache-2.0 */
/* objc.c: as much of an Objective-C runtime as six functions: selectors, messages, counts of
 * references, pools. A released object keeps its memory for a while, so that a message to it is
 * seen. */
#include "base/base.h"
#include "fake.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POOL_MAX 4096u
#define RELEASED_MAX 4096u
#define OTHERS_MAX 64u

static const char *const selectors[FAKE_MESSAGES] = {
#define LB_MESSAGE(result, name, selector, parameters) selector,
#include "device/metal_api.def"
#undef LB_MESSAGE
};
static char *others[OTHERS_MAX]; /* selectors that no object has */
static fake_object *pool[POOL_MAX], *released[RELEASED_MAX];
static u32 n_others, n_pool, n_pools, n_released, n_live;

void fake_die(const char *format, ...) {
    va_list list;
    va_start(list, format);
    fputs("fake metal: ", stderr);
    (void)vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
    abort();
}

bool fake_mode(const char *name) {
    const char *v = getenv("STUB_METAL");
    return v && strcmp(v, name) == 0;
}

u64 fake_number(const char *name, u64 otherwise) {
    const char *v = getenv(name);
    u64 n;
    return v && lb_str_to_u64(lb_str_c(v), &n) ? n : otherwise;
}

LB_PUBLIC void *sel_registerName(const char *name);
LB_PUBLIC void *sel_registerName(const char *name) {
    union {
        const char *from;
        void *to;
    } known;
    for (u32 i = 0; i < FAKE_MESSAGES; i++)
        if (strcmp(selectors[i], name) == 0) {
            known.from = selectors[i];
            return known.to;
        }
    for (u32 i = 0; i < n_others; i++)
        if (strcmp(others[i], name) == 0)
            return others[i];
    if (n_others == OTHERS_MAX)
        fake_die("more than %u unknown selectors", OTHERS_MAX);
    others[n_others] = strdup(name);
    return others[n_others++];
}

/* ---- references ---- */

void *fake_new(const fake_class *isa, size_t bytes) {
    fake_object *o = calloc(1, bytes);
    if (!o)
        fake_die("out of memory");
    o->isa = isa;
    o->was = isa->name;
    o->refs = 1;
    n_live++;
    return o;
}

static void must_live(const fake_object *o, const char *selector) {
    if (!o->isa)
        fake_die("-[%s %s] was sent to a released object", o->was, selector);
}

void *fake_check(void *object, const fake_class *isa, const char *what) {
    const fake_object *o = object;
    if (!o)
        fake_die("%s is nil", what);
    if (!o->isa)
        fake_die("%s: a released %s is used", what, o->was);
    if (o->isa != isa)
        fake_die("%s is a %s, not a %s", what, o->isa->name, isa->name);
    return object;
}

void *fake_retain(void *object) {
    fake_object *o = object;
    must_live(o, "retain");
    o->refs++;
    return o;
}

void fake_release(void *object) {
    fake_object *o = object;
    must_live(o, "release");
    if (--o->refs)
        return;
    if (o->isa->destroy)
        o->isa->destroy(o);
    o->isa = NULL;
    n_live--;
    fake_object **slot = &released[n_released++ % RELEASED_MAX];
    free(*slot);
    *slot = o;
}

void *fake_autorelease(void *object) {
    const fake_object *o = object;
    if (n_pools == 0)
        fake_die("a %s is autoreleased and there is no pool", o->was);
    if (n_pool == POOL_MAX)
        fake_die("more than %u objects in pools", POOL_MAX);
    pool[n_pool++] = object;
    return object;
}

LB_PUBLIC void *objc_autoreleasePoolPush(void);
LB_PUBLIC void *objc_autoreleasePoolPush(void) {
    n_pools++;
    return (void *)(uintptr_t)(n_pool + 1);
}

LB_PUBLIC void objc_autoreleasePoolPop(void *mark);
LB_PUBLIC void objc_autoreleasePoolPop(void *mark) {
    const u32 n = (u32)(uintptr_t)mark - 1;
    if (n_pools == 0 || n > n_pool)
        fake_die("a pool is popped that was not pushed");
    n_pools--;
    while (n_pool > n)
        fake_release(pool[--n_pool]);
}

LB_PUBLIC u32 lb_fake_metal_live(void) {
    return n_live;
}

/* When the program closes the library, or ends. */
__attribute__((destructor)) static void at_end(void) {
    for (u32 i = 0; i < RELEASED_MAX; i++)
        free(released[i]);
    for (u32 i = 0; i < n_others; i++)
        free(others[i]);
    if (n_live)
        fake_die("%u objects were never released", n_live);
}

/* ---- messages ---- */

static void *retain(void *self, void *cmd) {
    (void)cmd;
    return fake_retain(self);
}

static void release(void *self, void *cmd) {
    (void)cmd;
    fake_release(self);
}

static const fake_method *find(const fake_class *isa, const void *cmd) {
    for (u32 i = 0; i < isa->n_methods; i++)
        if (selectors[isa->methods[i].message] == cmd)
            return &isa->methods[i];
    return NULL;
}

static bool responds(void *self, void *cmd, void *selector) {
    static const char *const late[] = {"setMathMode:", "architecture"};
    const fake_object *o = self;
    (void)cmd;
    for (u32 i = 0; i < LB_LEN(late); i++)
        if (fake_mode("old") && strcmp(selector, late[i]) == 0)
            return false;
    return find(o->isa, selector) != NULL;
}

static const fake_method base_methods[] = {
    FAKE_METHOD(retain, retain),
    FAKE_METHOD(release, release),
    FAKE_METHOD(responds, responds),
};
static const fake_class base = {"NSObject", base_methods, LB_LEN(base_methods), NULL};

/* What objc_msgSend jumps to. */
__attribute__((used, visibility("hidden"))) void (*fake_lookup(const fake_object *self,
                                                               const char *cmd))(void);
void (*fake_lookup(const fake_object *self, const char *cmd))(void) {
    must_live(self, cmd);
    const fake_method *m = find(self->isa, cmd);
    if (!m)
        m = find(&base, cmd);
    if (!m || (fake_mode("old") &&
               (strcmp(cmd, "setMathMode:") == 0 || strcmp(cmd, "architecture") == 0)))
        fake_die("-[%s %s]: unrecognized selector", self->isa->name, cmd);
    return m->run;
}

/* Asks for the method with all registers of arguments kept, and goes there; nil answers 0. No
 * message has arguments in registers of floating point. */
LB_PUBLIC void objc_msgSend(void);
#if defined(__x86_64__)
__asm__(".text\n.globl objc_msgSend\n.type objc_msgSend,@function\nobjc_msgSend:\n"
        "testq %rdi,%rdi\nje 1f\n"
        "pushq %rbp\npushq %rdi\npushq %rsi\npushq %rdx\npushq %rcx\npushq %r8\npushq %r9\n"
        "call fake_lookup\nmovq %rax,%r11\n"
        "popq %r9\npopq %r8\npopq %rcx\npopq %rdx\npopq %rsi\npopq %rdi\npopq %rbp\njmp *%r11\n"
        "1: xorl %eax,%eax\nxorps %xmm0,%xmm0\nret\n");
#elif defined(__aarch64__)
__asm__(".text\n.p2align 2\n.globl objc_msgSend\n.type objc_msgSend,%function\nobjc_msgSend:\n"
        "cbz x0,1f\nstp x29,x30,[sp,#-96]!\nmov x29,sp\n"
        "stp x0,x1,[sp,#16]\nstp x2,x3,[sp,#32]\nstp x4,x5,[sp,#48]\nstp x6,x7,[sp,#64]\n"
        "str x8,[sp,#80]\nbl fake_lookup\nmov x16,x0\n"
        "ldp x0,x1,[sp,#16]\nldp x2,x3,[sp,#32]\nldp x4,x5,[sp,#48]\nldp x6,x7,[sp,#64]\n"
        "ldr x8,[sp,#80]\nldp x29,x30,[sp],#96\nbr x16\n"
        "1: mov x0,#0\nmovi d0,#0\nret\n");
#endif

/* ---- NSString, NSError ---- */

typedef struct fake_text_object {
    fake_object head;
    char *text;
    long code;
} fake_text_object;

static void destroy_text(fake_object *o) {
    free(((fake_text_object *)o)->text);
}

static const char *utf8(void *self, void *cmd) {
    (void)cmd;
    return ((fake_text_object *)self)->text;
}

static void *description(void *self, void *cmd) {
    (void)cmd;
    return fake_string(((fake_text_object *)self)->text);
}

static long code(void *self, void *cmd) {
    (void)cmd;
    return ((fake_text_object *)self)->code;
}

static const fake_method string_methods[] = {FAKE_METHOD(utf8, utf8)};
static const fake_class string_class = {"NSString", string_methods, LB_LEN(string_methods),
                                        destroy_text};
static const fake_method error_methods[] = {FAKE_METHOD(description, description),
                                            FAKE_METHOD(code, code)};
static const fake_class error_class = {"NSError", error_methods, LB_LEN(error_methods),
                                       destroy_text};

void *fake_string(const char *text) {
    fake_text_object *o = fake_new(&string_class, sizeof *o);
    o->text = strdup(text);
    return fake_autorelease(o);
}

const char *fake_text(void *string) {
    return ((fake_text_object *)fake_check(string, &string_class, "a text"))->text;
}

void *fake_error(const char *text, long why) {
    fake_text_object *o = fake_new(&error_class, sizeof *o);
    o->text = strdup(text);
    o->code = why;
    return fake_autorelease(o);
}
