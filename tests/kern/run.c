/* SPDX-License-Identifier: Apache-2.0 */
/* run.c: one kernel through all its cases: same bytes as the reference, nothing touched beside
 * them. */
#include "checkkern.h"

#define AREA_BYTES ((size_t)6 << 20)

typedef struct lab {
    area out, in[3];       /* where the kernel under test works */
    area ref_out, data[3]; /* the reference's output, the inputs as filled */
    bool ready;
} lab;

typedef struct call {
    const kern *w;
    any_fn *fn;
    const kcase *c;
    void *out;
    const void *in[3];
    result r;
} call;

static void do_call(void *arg) {
    call *k = arg;
    kcase_call(k->w, k->fn, k->c, k->out, k->in, &k->r);
}

static void start_result(const kcase *c, result *r) {
    memset(r, 0, sizeof *r);
    r->minmax[0] = 11;
    r->minmax[1] = -12;
    r->counts[0] = c->seed & 0xff;
    r->counts[1] = 5;
}

/* What the reference and the kernel under test differ in; NULL if in nothing. */
static const char *compare(const kcase *c, const lab *l, const call *ref, const call *got) {
    if (!area_intact(&l->out, got->out, c->out_bytes))
        return "wrote outside its output";
    for (u32 i = 0; i < c->n_in; i++) {
        if (c->alias == i + 1)
            continue;
        if (memcmp(got->in[i], l->data[i].lo, c->in_bytes[i]) != 0 ||
            !area_intact(&l->in[i], got->in[i], c->in_bytes[i]))
            return "wrote to an input";
    }
    if (c->out_bytes && memcmp(ref->out, got->out, c->out_bytes) != 0)
        return "output";
    if (memcmp(&ref->r.fold, &got->r.fold, sizeof ref->r.fold) != 0)
        return "fold";
    if (ref->r.n != got->r.n || memcmp(ref->r.counts, got->r.counts, sizeof ref->r.counts) != 0)
        return "counts";
    if (memcmp(ref->r.minmax, got->r.minmax, sizeof ref->r.minmax) != 0)
        return "range";
    return NULL;
}

static void print_difference(const kcase *c, const call *ref, const call *got) {
    const u8 *a = ref->out, *b = got->out;
    size_t i = 0, n = 0;
    for (size_t j = c->out_bytes; j-- > 0;)
        if (a[j] != b[j]) {
            i = j;
            n++;
        }
    if (n) {
        u32 x = 0, y = 0;
        const size_t at = i / 4 * 4, len = LB_MIN(c->out_bytes - at, (size_t)4);
        memcpy(&x, a + at, len);
        memcpy(&y, b + at, len);
        printf(
            "    %zu of %zu bytes differ, first at byte %zu (element %zu if f32): %08x, reference "
            "%08x\n",
            n, c->out_bytes, i, i / 4, y, x);
    }
    if (memcmp(&ref->r, &got->r, sizeof ref->r) != 0)
        printf("    fold %a, reference %a; n %llu, reference %llu; counts %llu %llu, reference "
               "%llu %llu; range %a %a, reference %a %a\n",
               got->r.fold, ref->r.fold, (unsigned long long)got->r.n, (unsigned long long)ref->r.n,
               (unsigned long long)got->r.counts[0], (unsigned long long)got->r.counts[1],
               (unsigned long long)ref->r.counts[0], (unsigned long long)ref->r.counts[1],
               (double)got->r.minmax[0], (double)got->r.minmax[1], (double)ref->r.minmax[0],
               (double)ref->r.minmax[1]);
}

/* Inputs, and what the reference makes of roomy copies of them. */
static bool run_reference(lab *l, const kcase *c, call *ref) {
    ref->out = area_place(&l->ref_out, c->out_bytes, PLACE_ROOMY, 1);
    memset(ref->out, 0xc3, c->out_bytes);
    for (u32 i = 0; i < c->n_in; i++) {
        LB_ASSERT(c->in_bytes[i] <= l->data[i].bytes);
        kcase_fill(ref->w, c, i, l->data[i].lo);
        ref->in[i] = l->data[i].lo;
    }
    start_result(c, &ref->r);
    return guarded(do_call, ref);
}

/* The kernel where the case places it. */
static const char *run_case(lab *l, const kcase *c, const call *ref, call *got) {
    got->out = area_place(&l->out, c->out_bytes, c->place, c->out_step);
    memset(got->out, 0xc3, c->out_bytes);
    for (u32 i = 0; i < c->n_in; i++) {
        u8 *at = area_place(&l->in[i], c->in_bytes[i], c->place, c->in_step[i]);
        memcpy(at, l->data[i].lo, c->in_bytes[i]);
        got->in[i] = at;
        if (c->alias == i + 1) {
            memcpy(got->out, l->data[i].lo, c->in_bytes[i]);
            got->in[i] = got->out;
        }
    }
    start_result(c, &got->r);
    if (!guarded(do_call, got))
        return "touched memory outside its buffers";
    return compare(c, l, ref, got);
}

static void report(const options *o, const char *isa, const char *what, size_t i, const call *ref,
                   const call *got) {
    const kcase *c = ref->c;
    printf("FAIL %s %s: %s\n    case %zu (seed %llu): ", ref->w->name, isa, what, i,
           (unsigned long long)o->seed);
    kcase_print(stdout, ref->w, c);
    printf("\n");
    if (!strstr(what, "touched"))
        print_difference(c, ref, got);
    printf("    again: checkkern%s --kernel %s --isa %s --seed %llu --case %zu\n",
           o->is_long ? " --long" : "", ref->w->name, isa, (unsigned long long)o->seed, i);
}

static lab the_lab;

/* Case i for some steps of the ladder: those that failed. The reference runs once for all. */
static u32 check_case(const options *o, const kern *w, const ladder *l, u32 steps, size_t i,
                      const kcase *c) {
    u32 failed = 0;
    call ref = {.w = w, .fn = kern_fn(&l->step[0].k, w), .c = c};
    const bool ran = run_reference(&the_lab, c, &ref);
    for (size_t s = 0; s < l->n_steps; s++) {
        if (!(steps >> s & 1))
            continue;
        call got = {.w = w, .fn = kern_fn(&l->step[s].k, w), .c = c};
        const char *what = ran ? run_case(&the_lab, c, &ref, &got)
                               : "the reference touched memory outside its buffers";
        if (what && !o->quiet)
            report(o, l->step[s].name, what, i, &ref, &got);
        failed |= (u32)(what != NULL) << s;
    }
    return failed;
}

u32 check_kern(const options *o, const kern *w, const ladder *l, u32 steps) {
    lab *at = &the_lab;
    if (!at->ready) {
        area_init(&at->out, AREA_BYTES);
        area_init(&at->ref_out, AREA_BYTES);
        for (int i = 0; i < 3; i++) {
            area_init(&at->in[i], AREA_BYTES);
            area_init(&at->data[i], AREA_BYTES);
        }
        at->ready = true;
    }
    kcase c;
    u32 failed = 0;
    for (size_t i = o->has_case ? o->one_case : 0;
         steps & ~failed && kcase_make(w, o->is_long, o->seed, i, &c);
         i += o->is_long ? 1 : o->case_step) {
        failed |= check_case(o, w, l, steps & ~failed, i, &c);
        if (o->has_case)
            break;
    }
    return failed;
}
