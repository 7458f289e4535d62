/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_fiber.c: fibers by a switch of stacks in a few lines of assembly, and the schedules. */
#include "device/cpu_fiber.h"
#include "base/mem.h"
#include <math.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define LB_FIBER_APART 192u        /* bytes that a stack begins lower than the one before, */
#define LB_FIBER_SPREAD 16384u     /* up to here */
#define LB_FIBER_GUARD 0x6b6e6f74u /* the lowest words of a stack, that nobody may reach */

struct lb_fibers {
    lb_fiber fiber[LB_FIBER_THREADS_MAX];
    void *sp; /* of the scheduler, while a fiber runs */
    u8 *stacks;
    u8 *shared; /* of the threadgroup, aligned to 64 */
    void *shared_block;
    const char *name;
    const lb_cpu_kernel *kernel;
    void *const *args;
    u32 n_threads, random;
    u16 order[LB_FIBER_THREADS_MAX]; /* in which they run between two meetings */
    u32 turn, n_done;                /* place in it of the one that runs; how many have ended */
    u32 shared_bytes; /* that a threadgroup has been given since they were last filled */
    /* by simdgroup, and in turn, so that slow lanes still read what fast ones have left behind */
    u32 words[LB_FIBER_THREADS_MAX / LB_FIBER_SIMD][2][LB_FIBER_SIMD][LB_FIBER_WORDS];
    bool too_much_shared;
#if defined(__SANITIZE_ADDRESS__)
    void *fake_stack;
    const void *stack_bottom; /* the scheduler's */
    size_t stack_bytes;
    bool by_scheduler; /* the fiber that begins or goes on follows the scheduler */
#endif
};

/* Saves what a call preserves on the running stack, leaves its pointer in *from, goes on at `to`,
 * which is fiber f's (NULL: the scheduler's). The arguments stay where they are: a function that
 * begins there has them, too. */
#if defined(__APPLE__)
#define LB_SYMBOL(name) "_" name
#else
#define LB_SYMBOL(name) name
#endif
void lb_fiber_switch(void **from, void *to, lb_fiber *f) __attribute__((visibility("hidden")));
#if defined(__x86_64__)
#define LB_FIBER_ARCH 1
__asm__(".text\n.globl " LB_SYMBOL("lb_fiber_switch") "\n" LB_SYMBOL(
    "lb_fiber_switch") ":\n"
                       "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
                       "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
                       "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\n"
                       "popq %rcx\njmp *%rcx\n");
#elif defined(__aarch64__)
#define LB_FIBER_ARCH 1
__asm__(".text\n.p2align 2\n.globl " LB_SYMBOL("lb_fiber_switch") "\n" LB_SYMBOL(
    "lb_fiber_switch") ":\n"
                       "sub sp,sp,#176\nstp x19,x20,[sp,#0]\nstp x21,x22,[sp,#16]\nstp "
                       "x23,x24,[sp,#32]\n"
                       "stp x25,x26,[sp,#48]\nstp x27,x28,[sp,#64]\nstp x29,x30,[sp,#80]\n"
                       "stp d8,d9,[sp,#96]\nstp d10,d11,[sp,#112]\nstp d12,d13,[sp,#128]\nstp "
                       "d14,d15,[sp,#144]\n"
                       "mov x9,sp\nstr x9,[x0]\nmov sp,x1\n"
                       "ldp x19,x20,[sp,#0]\nldp x21,x22,[sp,#16]\nldp x23,x24,[sp,#32]\n"
                       "ldp x25,x26,[sp,#48]\nldp x27,x28,[sp,#64]\nldp x29,x30,[sp,#80]\n"
                       "ldp d8,d9,[sp,#96]\nldp d10,d11,[sp,#112]\nldp d12,d13,[sp,#128]\nldp "
                       "d14,d15,[sp,#144]\n"
                       "add sp,sp,#176\nret\n");
#else
#define LB_FIBER_ARCH 0
void lb_fiber_switch(void **from, void *to, lb_fiber *f) {
    (void)from;
    (void)to;
    (void)f;
}
#endif

static u8 *stack_of(const lb_fiber *f) {
    return f->all->stacks + (size_t)f->thread * LB_FIBER_STACK_BYTES;
}

/* The next fiber of the order that can run, NULL: the scheduler's turn. */
static lb_fiber *next_to_run(lb_fibers *all) {
    while (++all->turn < all->n_threads) {
        lb_fiber *f = &all->fiber[all->order[all->turn]];
        if (f->state == LB_FIBER_RUNS)
            return f;
    }
    return NULL;
}

/* The address sanitizer is told of both stacks (NULL: the scheduler's), and says itself which one
 * the scheduler's is when a fiber follows it. */
#if defined(__SANITIZE_ADDRESS__)
static void leaves(lb_fibers *all, lb_fiber *from, const lb_fiber *to) {
    void **kept = !from                          ? &all->fake_stack
                  : from->state == LB_FIBER_DONE ? NULL
                                                 : &from->fake_stack;
    all->by_scheduler = !from;
    __sanitizer_start_switch_fiber(kept, to ? stack_of(to) : all->stack_bottom,
                                   to ? LB_FIBER_STACK_BYTES : all->stack_bytes);
}

static void arrives(lb_fibers *all, void *fake_stack) {
    const bool first = all->by_scheduler;
    __sanitizer_finish_switch_fiber(fake_stack, first ? &all->stack_bottom : NULL,
                                    first ? &all->stack_bytes : NULL);
}
#endif

/* The scheduler's turn ends: the fibers that can run do, in their order, each to where it waits or
 * ends. Whether there was one. */
static bool run_fibers(lb_fibers *all) {
    all->turn = UINT32_MAX;
    lb_fiber *f = next_to_run(all);
    if (!f)
        return false;
#if defined(__SANITIZE_ADDRESS__)
    leaves(all, NULL, f);
#endif
    lb_fiber_switch(&all->sp, f->sp, f);
#if defined(__SANITIZE_ADDRESS__)
    all->by_scheduler = false;
    arrives(all, all->fake_stack);
#endif
    return true;
}

/* To the next fiber, without the scheduler between the two. */
static void suspend(lb_fiber *f) {
    lb_fibers *all = f->all;
    lb_fiber *next = next_to_run(all);
#if defined(__SANITIZE_ADDRESS__)
    leaves(all, f, next);
#endif
    lb_fiber_switch(&f->sp, next ? next->sp : all->sp, next);
#if defined(__SANITIZE_ADDRESS__)
    arrives(all, f->fake_stack);
#endif
}

/* The first function on a fiber's stack, with lb_fiber_switch's arguments. It never returns:
 * nothing resumes a fiber that is done. */
static void enter(void **from, void *to, lb_fiber *f) {
    (void)from;
    (void)to;
#if defined(__SANITIZE_ADDRESS__)
    arrives(f->all, NULL);
#endif
    f->all->kernel->run(f, f->all->args);
    f->state = LB_FIBER_DONE;
    f->all->n_done++;
    suspend(f);
    LB_ASSERT(!"a fiber that is done was resumed");
}

static void begin(lb_fiber *f) {
    u8 *stack = stack_of(f);
    void **sp = (void **)(void *)(stack + LB_FIBER_STACK_BYTES);
#if defined(__SANITIZE_ADDRESS__)
    if (f->state != LB_FIBER_DONE) /* what is left of one that never ended */
        __asan_unpoison_memory_region(stack, LB_FIBER_STACK_BYTES);
    f->fake_stack = NULL;
#endif
    f->state = LB_FIBER_RUNS;
    f->shared_bytes = 0;
    f->turn = 0;
    lb_store_u32(stack, LB_FIBER_GUARD);
    /* Stacks that all began at one place of their 64 KiB would share a few sets of the caches. */
    sp -= f->thread * LB_FIBER_APART % LB_FIBER_SPREAD / sizeof *sp;
    union {
        void (*fn)(void **, void *, lb_fiber *);
        void *ptr;
    } entry = {.fn = enter};
#if defined(__x86_64__)
    *--sp = NULL; /* a return address, so that the stack is aligned as after a call */
    *--sp = entry.ptr;
    for (u32 i = 0; i < 6; i++)
        *--sp = NULL;
#else
    sp -= 22;
    memset(sp, 0, 22 * sizeof *sp);
    sp[11] = entry.ptr; /* x30 */
#endif
    f->sp = sp;
}

static void wait_at(lb_fiber *f, lb_fiber_op op, int line) {
    f->state = LB_FIBER_WAITS;
    f->op = op;
    f->line = line;
    suspend(f);
}

lb_fiber *lb_fibers_running(lb_fibers *all) {
    return &all->fiber[all->order[all->turn]];
}

void lb_fiber_barrier(lb_fiber *f, int line) {
    wait_at(f, LB_FIBER_BARRIER, line);
}

float lb_fiber_simd(lb_fiber *f, lb_fiber_op op, float value, int line) {
    f->value = value;
    wait_at(f, op, line);
    return f->value;
}

static void *shared(lb_fiber *f, size_t size_bytes, u32 most) {
    const u32 at = f->shared_bytes;
    if (at > most || size_bytes > most - at) { /* reported when the threadgroup has ended */
        f->all->too_much_shared = true;
        return f->all->shared;
    }
    f->shared_bytes += (u32)lb_round_up(size_bytes, 16);
    f->all->shared_bytes = LB_MAX(f->all->shared_bytes, f->shared_bytes);
    return f->all->shared + at;
}

void *lb_fiber_shared(lb_fiber *f, size_t size_bytes) {
    return shared(f, size_bytes, LB_FIBER_SHARED_BYTES);
}

void *lb_fiber_shared_more(lb_fiber *f, size_t size_bytes) {
    return shared(f, size_bytes, LB_FIBER_SHARED_MOST);
}

const u32 (*lb_fiber_words(lb_fiber *f, const u32 *words, u32 n, int line))[LB_FIBER_WORDS] {
    lb_fibers *all = f->all;
    const u32 simd = f->thread / LB_FIBER_SIMD;
    u32(*to)[LB_FIBER_WORDS] = all->words[simd][f->turn++ % 2];
    LB_ASSERT(n <= LB_FIBER_WORDS);
    memcpy(to[f->thread % LB_FIBER_SIMD], words, n * sizeof *words);
    (void)lb_fiber_simd(f, LB_FIBER_SUM, 0, line);
    return (const u32(*)[LB_FIBER_WORDS])to;
}

static u32 simd_end(const lb_fibers *all, u32 simd) {
    return LB_MIN((simd + 1) * LB_FIBER_SIMD, all->n_threads);
}

static bool simd_waits(const lb_fibers *all, u32 simd) {
    for (u32 i = simd * LB_FIBER_SIMD; i < simd_end(all, simd); i++)
        if (all->fiber[i].state == LB_FIBER_WAITS && all->fiber[i].op != LB_FIBER_BARRIER)
            return true;
    return false;
}

/* Carries out the operation at which all lanes of a simdgroup wait. */
static lb_status simd_finish(lb_fibers *all, u32 simd, lb_err *err) {
    const u32 from = simd * LB_FIBER_SIMD, to = simd_end(all, simd);
    const lb_fiber *first = &all->fiber[from];
    float lane[LB_FIBER_SIMD] = {0}, max = -(float)INFINITY;
    for (u32 i = from; i < to; i++) {
        const lb_fiber *f = &all->fiber[i];
        if (f->state != LB_FIBER_WAITS || f->op != first->op || f->line != first->line)
            return lb_fail(err, LB_E_FORMAT,
                           "kernel %s: simdgroup operation in divergent flow: line %d, lane %u",
                           all->name, first->line, i - from);
        lane[i - from] = f->value;
        max = f->value > max ? f->value : max;
    }
    for (u32 half = LB_FIBER_SIMD / 2; half; half /= 2)
        for (u32 i = 0; i < half; i++)
            lane[i] += lane[i + half];
    for (u32 i = from; i < to; i++) {
        all->fiber[i].value = first->op == LB_FIBER_SUM ? lane[0] : max;
        all->fiber[i].state = LB_FIBER_RUNS;
    }
    return LB_OK;
}

static u32 random_below(lb_fibers *all, u32 n) {
    all->random = all->random * 1664525u + 1013904223u;
    return (all->random >> 8) % n;
}

/* One simdgroup that waits at an operation, chosen at random: it runs ahead of the others. */
static u32 one_ahead(lb_fibers *all, u32 n_simds) {
    const u32 from = random_below(all, n_simds);
    for (u32 i = 0; i < n_simds; i++)
        if (simd_waits(all, (from + i) % n_simds))
            return (from + i) % n_simds;
    return n_simds;
}

/* What waits at simdgroup operations goes on; *any: something did. */
static lb_status finish_simds(lb_fibers *all, bool ahead, bool *any, lb_err *err) {
    const u32 n_simds = (all->n_threads + LB_FIBER_SIMD - 1) / LB_FIBER_SIMD;
    const u32 only = ahead ? one_ahead(all, n_simds) : n_simds;
    *any = false;
    for (u32 s = 0; s < n_simds; s++) {
        if ((ahead && s != only) || !simd_waits(all, s))
            continue;
        LB_TRY(simd_finish(all, s, err));
        *any = true;
    }
    return LB_OK;
}

static lb_status pass_barrier(lb_fibers *all, lb_err *err) {
    for (u32 i = 0; i < all->n_threads; i++) {
        const lb_fiber *f = &all->fiber[i];
        if (f->state != LB_FIBER_WAITS || f->line != all->fiber[0].line)
            return lb_fail(err, LB_E_FORMAT, "kernel %s: a barrier that thread %u does not reach",
                           all->name, i);
    }
    for (u32 i = 0; i < all->n_threads; i++)
        all->fiber[i].state = LB_FIBER_RUNS;
    return LB_OK;
}

static void shuffle(lb_fibers *all, u32 schedule) {
    const u32 n = all->n_threads;
    u16 *order = all->order;
    for (u32 i = 0; i < n; i++)
        order[i] = (u16)(schedule == LB_FIBER_BACKWARD ? n - 1 - i : i);
    for (u32 i = n - 1; schedule > LB_FIBER_BACKWARD && i; i--) {
        const u32 j = random_below(all, i + 1);
        const u16 t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
}

static lb_status check_stacks(const lb_fibers *all, lb_err *err) {
    if (all->too_much_shared)
        return lb_fail(err, LB_E_FORMAT, "kernel %s: more than %u bytes of threadgroup memory",
                       all->name, LB_FIBER_SHARED_BYTES);
    for (u32 i = 0; i < all->n_threads; i++)
        if (lb_load_u32(stack_of(&all->fiber[i])) != LB_FIBER_GUARD)
            return lb_fail(err, LB_E_FORMAT, "kernel %s: a stack of more than %u bytes", all->name,
                           LB_FIBER_STACK_BYTES - LB_FIBER_SPREAD);
    return LB_OK;
}

static lb_status run_group(lb_fibers *all, u32 schedule, lb_err *err) {
    shuffle(all, schedule);
    memset(all->shared, 0xff, LB_MIN(all->shared_bytes, LB_FIBER_SHARED_MOST)); /* NaN */
    all->shared_bytes = 0;
    all->n_done = 0;
    for (u32 i = 0; i < all->n_threads; i++)
        begin(&all->fiber[i]);
    for (;;) {
        const bool ran = run_fibers(all);
        if (all->n_done == all->n_threads)
            return check_stacks(all, err);
        bool more = false;
        if (ran)
            LB_TRY(finish_simds(all, schedule > LB_FIBER_BACKWARD, &more, err));
        if (!more)
            LB_TRY(pass_barrier(all, err));
    }
}

lb_status lb_fibers_run(lb_fibers *all, const char *name, const lb_cpu_kernel *k, void *const *args,
                        const lb_fiber_grid *grid, lb_err *err) {
    const u32 n_threads = grid->n_threads;
    LB_ASSERT(n_threads > 0 && n_threads <= LB_FIBER_THREADS_MAX);
    all->name = name;
    all->kernel = k;
    all->args = args;
    all->n_threads = n_threads;
    all->random = grid->schedule * 2654435761u + 1;
    all->too_much_shared = false;
    for (u32 z = 0; z < grid->groups[2]; z++)
        for (u32 y = 0; y < grid->groups[1]; y++)
            for (u32 x = 0; x < grid->groups[0]; x++) {
                for (u32 i = 0; i < n_threads; i++) {
                    all->fiber[i].group[0] = x;
                    all->fiber[i].group[1] = y;
                    all->fiber[i].group[2] = z;
                }
                LB_TRY(run_group(all, grid->schedule, err));
            }
    return LB_OK;
}

lb_status lb_fibers_new(lb_fibers **out, lb_err *err) {
    *out = NULL;
    if (!LB_FIBER_ARCH)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "kernels as C11 run on x86-64 and 64-bit Arm processors only");
    lb_fibers *all = lb_alloc_zero(1, sizeof *all);
    /* Stacks lie at multiples of their size: a fiber finds itself at the top of its own. */
    void *block =
        lb_alloc((size_t)(LB_FIBER_THREADS_MAX + 1) * LB_FIBER_STACK_BYTES + LB_FIBER_SHARED_MOST);
    if (!all || !block) {
        lb_free(all);
        lb_free(block);
        return lb_fail(err, LB_E_NOMEM, "out of memory for the stacks of a threadgroup");
    }
    const uintptr_t base = (uintptr_t)block;
    all->shared_block = block;
    all->shared_bytes = LB_FIBER_SHARED_MOST; /* what the first threadgroup finds is NaN, too */
    all->stacks = (u8 *)block + (lb_round_up(base, LB_FIBER_STACK_BYTES) - base);
    all->shared = all->stacks + (size_t)LB_FIBER_THREADS_MAX * LB_FIBER_STACK_BYTES;
    for (u32 i = 0; i < LB_FIBER_THREADS_MAX; i++) {
        all->fiber[i].all = all;
        all->fiber[i].thread = i;
    }
    *out = all;
    return LB_OK;
}

void lb_fibers_free(lb_fibers **f) {
    if (!*f)
        return;
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region((*f)->stacks, LB_FIBER_THREADS_MAX * LB_FIBER_STACK_BYTES);
#endif
    lb_free((*f)->shared_block);
    lb_free(*f);
    *f = NULL;
}
