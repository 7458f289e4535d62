/* SPDX-License-Identifier: Apache-2.0 */
/* placing.c: see placing.h. Borders by dynamic programming: layers times layers times devices. */
#include "model/placing.h"
#include "base/mem.h"
#include <math.h>

typedef struct table {
    const lb_placing_in *in;
    u32 n_host, n_devices;
    double *best; /* [n_devices + 1][n_layers + 1] largest part of a share, of the first devices */
    u32 *from;    /* the same: where the last of them begins */
    u64 *sum;     /* [n_layers + 1] of the layers before */
} table;

static u64 bytes_of(const table *t, u32 device, u32 begin, u32 end) {
    const lb_placing_in *in = t->in;
    u64 n = in->fixed_bytes;
    const bool first = begin == 0, last = device + 1 == t->n_devices;
    n += t->sum[end] - t->sum[begin];
    n += first ? in->first_bytes : 0;
    n += last ? in->last_bytes : 0;
    return first && last ? n - in->both_bytes : n;
}

/* The part of its share that a device would have; infinite: it does not fit. */
static double part_of(const table *t, u32 device, u64 bytes) {
    const lb_placing_in *in = t->in;
    const u64 most = in->free_bytes[device];
    if (most && bytes > most)
        return INFINITY;
    if (in->share)
        return (double)bytes / in->share[device];
    return most ? (double)bytes / (double)most : (double)bytes;
}

/* Whether it could fit if layers were sand. */
static bool in_all(const table *t) {
    const lb_placing_in *in = t->in;
    u64 most = 0, n = t->sum[in->n_layers] - t->sum[t->n_host] + in->last_bytes;
    for (u32 i = 0; i < t->n_devices; i++) {
        if (!in->free_bytes[i])
            return true;
        most += in->free_bytes[i];
        n += in->fixed_bytes;
    }
    return n - LB_MIN(n, in->both_bytes) <= most;
}

static bool fill(const table *t) {
    const lb_placing_in *in = t->in;
    const u32 width = in->n_layers + 1;
    for (u32 i = 0; i < (t->n_devices + 1) * width; i++)
        t->best[i] = INFINITY;
    t->best[t->n_host] = 0;
    for (u32 d = 0; d < t->n_devices; d++)
        for (u32 begin = t->n_host + d; begin < in->n_layers; begin++) {
            if (t->best[d * width + begin] == INFINITY || (begin && in->whole[begin]))
                continue;
            for (u32 end = begin + 1; end <= in->n_layers; end++) {
                const double part =
                    fmax(t->best[d * width + begin], part_of(t, d, bytes_of(t, d, begin, end)));
                const u32 at = (d + 1) * width + end;
                if (part < t->best[at]) {
                    t->best[at] = part;
                    t->from[at] = begin;
                }
                if (part == INFINITY)
                    break;
            }
        }
    return t->best[t->n_devices * width + in->n_layers] != INFINITY;
}

static void read_back(const table *t, lb_placing *out) {
    const u32 width = t->in->n_layers + 1;
    u32 end = t->in->n_layers;
    *out = (lb_placing){.n_host = t->n_host, .n_devices = t->n_devices};
    for (u32 d = t->n_devices; d-- > 0;) {
        const u32 begin = t->from[(d + 1) * width + end];
        out->end[d] = end;
        out->bytes[d] = bytes_of(t, d, begin, end);
        end = begin;
    }
}

/* So many layers on devices: over all of them, or fewer where there are too few layers. */
static bool place(table *t, u32 n_layers, lb_placing *out) {
    const lb_placing_in *in = t->in;
    const u32 most = LB_MIN(in->n_devices, n_layers);
    t->n_host = in->n_layers - n_layers;
    for (u32 i = 0; i < most; i++) {
        t->n_devices = in->few ? i + 1 : most - i;
        if (in_all(t) && fill(t)) {
            read_back(t, out);
            return true;
        }
    }
    return false;
}

lb_status lb_place(const lb_placing_in *in, lb_placing *out, lb_err *err) {
    const u64 n = (u64)(in->n_devices + 1) * (in->n_layers + 1);
    table t = {.in = in,
               .best = lb_alloc(n * sizeof(double)),
               .from = lb_alloc(n * sizeof(u32)),
               .sum = lb_alloc_zero(in->n_layers + 1ull, sizeof(u64))};
    const bool made = t.best && t.from && t.sum;
    u32 most = LB_MIN(in->n_wanted, in->n_layers);
    while (most && most < in->n_layers && in->whole[in->n_layers - most])
        most++;
    const u32 least = in->n_wanted == LB_NO_INDEX ? 1 : most;
    *out = (lb_placing){.n_host = in->n_layers};
    for (u32 i = 0; made && i < in->n_layers; i++)
        t.sum[i + 1] = t.sum[i] + in->layer_bytes[i];
    for (u32 want = most; made && want >= least && want > 0; want--)
        if (place(&t, want, out))
            break;
    lb_free(t.best);
    lb_free(t.from);
    lb_free(t.sum);
    return made ? LB_OK : lb_fail(err, LB_E_NOMEM, "out of memory for placing layers");
}
