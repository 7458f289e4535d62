/* SPDX-License-Identifier: Apache-2.0 */
/* bench.c: times of kernels: warm (data in the first caches) and cold (from memory). */
#include "checkkern.h"
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
    double ns[N_ROUNDS], tk = 0, sum = 0, var = 0;
    for (int r = 0; r < N_ROUNDS; r++) {
        u64 calls = 0;
        const double t0 = seconds();
        const u64 k0 = ticks();
        do { /* a look at the clock costs as much as 1,000 elements: one for 16 calls or more */
            for (size_t n = 0; n < LB_MAX(n_sets, (size_t)16); n++, calls++) {
                const size_t s = n % n_sets;
                const void *src[3];
                result res = {0};
                for (u32 i = 0; i < 3; i++)
                    src[i] = in[i].lo + s * ((c->in_bytes[i] + 63) / 64 * 64);
                kcase_call(w, fn, c, out->lo + s * ((c->out_bytes + 63) / 64 * 64), src, &res);
            }
        } while (seconds() - t0 < seconds_min / N_ROUNDS);
        const double n = (double)calls * (double)elems;
        ns[r] = (seconds() - t0) * 1e9 / n;
        tk += (double)(ticks() - k0) / n / N_ROUNDS;
        sum += ns[r] / N_ROUNDS;
    }
    double best = ns[0];
    for (int r = 0; r < N_ROUNDS; r++) {
        var += (ns[r] - sum) * (ns[r] - sum) / N_ROUNDS;
        best = LB_MIN(best, ns[r]);
    }
    return (timing){best, tk * best / sum, 100 * root(var) / sum};
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

void bench(const options *o, const ladder *l) {
    static const struct {
        const char *name;
        size_t elems, sets;
    } sizes[] = {{"warm", WARM_ELEMS, 1}, {"cold", 16384, COLD_ELEMS * 16 / 16384}};
    area out, in[3];
    area_init(&out, sizes[1].sets * 16384 * 8 + 4096);
    for (int i = 0; i < 3; i++)
        area_init(&in[i], sizes[1].sets * 16384 * 8 + 4096);
    printf("%-24s %-10s %-5s %9s %9s %6s %8s %7s\n", "kernel", "isa", "data", "ns/elem",
           "tick/elem", "+-%", "GB/s", "x ref");
    for (size_t i = 0; i < n_kerns(); i++) {
        const kern w = get_kern(i);
        if (o->only && !strstr(w.name, o->only))
            continue;
        for (size_t z = 0; z < LB_LEN(sizes); z++) {
            double ref_ns = 0;
            kcase c;
            kcase_bench(&w, sizes[z].elems, &c);
            for (u32 k = 0; k < c.n_in; k++)
                for (size_t s = 0; s < sizes[z].sets; s++) {
                    u8 *const p = in[k].lo + s * ((c.in_bytes[k] + 63) / 64 * 64);
                    kcase_fill(&w, &c, k, p);
                    if (k == 0)
                        make_finite(&w, kern_fn(&l->step[0].k, &w), &c, p);
                }
            size_t bytes = c.out_bytes;
            for (u32 k = 0; k < c.n_in; k++)
                bytes += c.in_bytes[k];
            for (size_t s = 0; s < l->n_steps; s++) {
                any_fn *const fn = kern_fn(&l->step[s].k, &w);
                if (s && fn == kern_fn(&l->step[s - 1].k, &w))
                    continue;
                if (s && o->isa && strcmp(o->isa, l->step[s].name) != 0)
                    continue;
                const timing t = measure(&w, fn, &c, &out, in, sizes[z].sets, 0.045);
                if (s == 0)
                    ref_ns = t.ns;
                printf("%-24s %-10s %-5s %9.4f %9.3f %6.1f %8.2f %7.2f\n", w.name, l->step[s].name,
                       sizes[z].name, t.ns, t.ticks, t.dev,
                       (double)bytes / (double)kcase_elems(&w, &c) / t.ns, ref_ns / t.ns);
            }
        }
    }
}
