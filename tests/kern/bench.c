/* SPDX-License-Identifier: Apache-2.0 */
/* bench.c: times of kernels: warm (data in the first caches) and cold (from memory), beside
 * memcpy's. They are times of this thread: neighbours take its caches, but not its time. */
#include "checkkern.h"
#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

/* Ticks of the processor's constant clock: near to cycles on x86, a slow counter on Arm. */
static u64 ticks(void) {
#if defined(__x86_64__)
    return __rdtsc();
#elif defined(__aarch64__)
    u64 t;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(t));
    return t;
#else
    return (u64)(seconds() * 1e9);
#endif
}

static double thread_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double root(double x) { /* Newton; nothing here needs more */
    double r = x > 1 ? x : 1;
    for (int i = 0; i < 60; i++)
        r = (r + x / r) / 2;
    return x > 0 ? r : 0;
}

enum { N_ROUNDS = 9, WARM_ELEMS = 4096, COLD_ELEMS = 1 << 20 };

typedef struct timing {
    double ns, ticks, dev; /* an element; deviation of the rounds in % */
} timing;

/* n_sets places are walked in turn, so that with many of them none is in a cache. */
static timing measure(const kern *w, any_fn *fn, const kcase *c, const area *out, const area in[3],
                      size_t n_sets, double seconds_min) {
    const size_t elems = kcase_elems(w, c);
    double ns[N_ROUNDS], sum = 0, var = 0;
    const double wall0 = seconds();
    const u64 ticks0 = ticks();
    for (int r = 0; r < N_ROUNDS; r++) {
        u64 calls = 0;
        const double t0 = thread_seconds();
        double t;
        do { /* a look at the clock costs as much as 2,000 elements: one for 64 calls or more */
            for (size_t n = 0; n < LB_MAX(n_sets, (size_t)64); n++, calls++) {
                const size_t s = n % n_sets;
                const void *src[3];
                result res = {0};
                for (u32 i = 0; i < 3; i++)
                    src[i] = in[i].lo + s * ((c->in_bytes[i] + 63) / 64 * 64);
                kcase_call(w, fn, c, out->lo + s * ((c->out_bytes + 63) / 64 * 64), src, &res);
            }
            t = thread_seconds() - t0;
        } while (t < seconds_min / N_ROUNDS);
        ns[r] = t * 1e9 / ((double)calls * (double)elems);
        sum += ns[r] / N_ROUNDS;
    }
    const double ticks_ns = (double)(ticks() - ticks0) / ((seconds() - wall0) * 1e9);
    double best = ns[0];
    for (int r = 0; r < N_ROUNDS; r++) {
        var += (ns[r] - sum) * (ns[r] - sum) / N_ROUNDS;
        best = LB_MIN(best, ns[r]);
    }
    return (timing){best, ticks_ns * best, 100 * root(var) / sum};
}

/* Draws blocks anew until all their values are finite, as a model's are: random bytes make every
 * 32nd f16 scale Inf or NaN, and those blocks take another way through a decoder. */
static void make_finite(const kern *w, any_fn *ref, const kcase *c, u8 *blocks) {
    float v[256];
    rng r = {c->seed};
    if (w->sig != SIG_DECODE || w->block_elems < 16 || w->block_elems > LB_LEN(v))
        return;
    for (u8 *p = blocks; p < blocks + c->in_bytes[0]; p += w->block_bytes) {
        bool finite;
        do {
            ((lb_decode_fn *)ref)(w->block_elems, v, p);
            finite = true;
            for (u32 i = 0; i < w->block_elems; i++)
                finite = finite && v[i] - v[i] == 0;
            for (u32 i = 0; !finite && i < w->block_bytes; i++)
                p[i] = (u8)rng_next(&r);
        } while (!finite);
    }
}

static const struct {
    const char *name;
    size_t elems, sets;
} sizes[] = {{"warm", WARM_ELEMS, 1}, {"cold", 16384, COLD_ELEMS * 16 / 16384}};

static void copy_f32(size_t n_elems, float *out, const float *a) {
    memcpy(out, a, n_elems * sizeof(float));
}

/* Kernel w of every instruction set, or `only_fn`. */
static void bench_kern(const options *o, const ladder *l, const kern *w, any_fn *only_fn, area *out,
                       area in[3]) {
    any_fn *const ref = only_fn ? only_fn : kern_fn(&l->step[0].k, w);
    for (size_t z = 0; z < LB_LEN(sizes); z++) {
        double ref_ns = 0;
        kcase c;
        kcase_bench(w, sizes[z].elems, &c);
        size_t bytes = c.out_bytes;
        for (u32 k = 0; k < c.n_in; k++) {
            bytes += c.in_bytes[k];
            for (size_t s = 0; s < sizes[z].sets; s++) {
                u8 *const p = in[k].lo + s * ((c.in_bytes[k] + 63) / 64 * 64);
                kcase_fill(w, &c, k, p);
                if (k == 0)
                    make_finite(w, ref, &c, p);
            }
        }
        for (size_t s = 0; s < (only_fn ? 1 : l->n_steps); s++) {
            any_fn *const fn = s ? kern_fn(&l->step[s].k, w) : ref;
            if (!has_own(l, w, s))
                continue;
            if (s && o->isa && strcmp(o->isa, l->step[s].name) != 0)
                continue;
            const timing t = measure(w, fn, &c, out, in, sizes[z].sets, 0.045);
            if (s == 0)
                ref_ns = t.ns;
            printf("%-24s %-10s %-5s %9.4f %9.3f %6.1f %8.2f %7.2f\n", w->name,
                   only_fn ? "" : l->step[s].name, sizes[z].name, t.ns, t.ticks, t.dev,
                   (double)bytes / (double)kcase_elems(w, &c) / t.ns, ref_ns / t.ns);
        }
    }
}

void bench(const options *o, const ladder *l) {
    const kern copy = {.name = "memcpy", .sig = SIG_MAP1};
    area out, in[3];
    area_init(&out, sizes[1].sets * 16384 * 8 + 4096);
    for (int i = 0; i < 3; i++)
        area_init(&in[i], sizes[1].sets * 16384 * 8 + 4096);
    printf("%-24s %-10s %-5s %9s %9s %6s %8s %7s\n", "kernel", "isa", "data", "ns/elem",
           "tick/elem", "+-%", "GB/s", "x ref");
    bench_kern(o, l, &copy, (any_fn *)copy_f32, &out, in);
    for (size_t i = 0; i < n_kerns(); i++) {
        const kern w = get_kern(i);
        if (!o->only || strstr(w.name, o->only))
            bench_kern(o, l, &w, NULL, &out, in);
    }
}
