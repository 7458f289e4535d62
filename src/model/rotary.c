/* SPDX-License-Identifier: Apache-2.0 */
/* rotary.c: see rotary.h. */
#include "model/rotary.h"
#include <math.h>

#define PI 3.14159265358979323846

/* The element from which on `turns` turns fit into the original context. */
static double corrected(const lb_params *p, u32 n_rot, double base, double turns) {
    return n_rot * log(p->n_ctx_orig / (turns * 2 * PI)) / (2 * log(base));
}

/* Factors by which frequencies are divided; NULL: none. */
static lb_status factors_of(const lb_params *p, const lb_mweights *w, u32 n_rot, u32 n_ctx,
                            const float **out, lb_err *err) {
    const char *name = "rope_freqs.weight";
    const lb_mweight *f = lb_mweights_find(w, lb_str_c(name));
    *out = NULL;
    if (!f) {
        name = n_ctx > p->n_ctx_orig ? "rope_factors_long.weight" : "rope_factors_short.weight";
        f = lb_mweights_find(w, lb_str_c(name));
    }
    if (!f) {
        const lb_rope_list *list = p->rope_freq.v          ? &p->rope_freq
                                   : n_ctx > p->n_ctx_orig ? &p->rope_long
                                                           : &p->rope_short;
        *out = list->v;
        return !list->v || list->n >= n_rot / 2
                   ? LB_OK
                   : lb_fail(err, LB_E_FORMAT, "metadata: fewer factors than the %u of rope",
                             n_rot / 2);
    }
    if (!f->values || f->n_rows * f->n_cols < n_rot / 2)
        return lb_fail(err, LB_E_FORMAT, "tensor '%s': fewer factors than the %u of rope", name,
                       n_rot / 2);
    *out = f->values;
    return LB_OK;
}

u32 lb_rotary_ctx(const lb_params *p, const lb_mweights *w, u32 n_ctx) {
    if (p->scaling == LB_SCALING_DYNAMIC)
        return p->n_ctx_train && n_ctx > p->n_ctx_train ? n_ctx : 0;
    bool by_length = !lb_mweights_find(w, lb_str_c("rope_freqs.weight")) && !p->rope_freq.v &&
                     (p->rope_long.v || lb_mweights_find(w, lb_str_c("rope_factors_long.weight")));
    return by_length && n_ctx > p->n_ctx_orig ? p->n_ctx_orig + 1 : 0;
}

/* The base by which a session of n_ctx positions has `factor` times the trained context. */
static double ntk_base(const lb_params *p, double base, u32 n_rot, u32 n_ctx) {
    double times = p->n_ctx_train ? (double)n_ctx / p->n_ctx_train : 1;
    return times <= 1 || n_rot <= 2
               ? base
               : base * pow(p->rope_factor * times - (p->rope_factor - 1), n_rot / (n_rot - 2.0));
}

lb_status lb_rotary_init(lb_rotary *r, const lb_rotary_in *in, lb_arena *perm, lb_err *err) {
    const lb_params *p = in->p;
    const u32 n_rot = in->n_rot;
    const bool local = in->local;
    double base = local ? p->rope_base_window : p->rope_base;
    double scale = local ? 1 : 1 / p->rope_factor, ext = local ? 0 : p->yarn_ext;
    if (p->scaling == LB_SCALING_DYNAMIC) {
        base = local ? base : ntk_base(p, base, n_rot, in->n_ctx);
        scale = 1;
    }
    const float *factor = NULL;
    double *speed = lb_arena_new(perm, double, n_rot / 2 + 1);
    *r = (lb_rotary){.n_rot = n_rot, .mscale = 1, .speed = speed};
    if (!speed)
        return lb_fail(err, LB_E_NOMEM, "out of memory for rope");
    if (!local)
        LB_TRY(factors_of(p, in->w, n_rot, in->n_ctx, &factor, err));
    double low = corrected(p, n_rot, base, p->yarn_fast);
    double high = corrected(p, n_rot, base, p->yarn_slow);
    if (p->yarn_round) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(0, low);
    high = fmin(n_rot - 1.0, high);
    for (u32 i = 0; i < n_rot / 2; i++) {
        double whole = pow(base, -2.0 * i / n_rot);
        if (factor)
            whole /= (double)factor[i];
        double ramp = 1 - fmin(1, fmax(0, (i - low) / fmax(0.001, high - low)));
        double mix = ext != 0 ? ramp * ext : 0;
        speed[i] = whole * (scale * (1 - mix) + mix);
    }
    if (!local) {
        r->mscale = p->rope_attn_factor;
        if (ext != 0 && p->yarn_mscale > 0)
            r->mscale *= p->yarn_mscale;
        else if (ext != 0 && p->rope_factor > 1 && !p->kv_rank) /* latent attention: in its scale */
            r->mscale *=
                (1 + 0.1 * log(p->rope_factor)) / (1 + 0.1 * p->yarn_log_mul * log(p->rope_factor));
        if (ext != 0 && p->rope_factor > 1 && p->kv_rank && p->yarn_log_mul == 0 &&
            p->yarn_mscale <= 0)
            r->mscale *= 1 + 0.1 * log(p->rope_factor);
    }
    return LB_OK;
}

void lb_rotary_angles(const lb_rotary *r, u32 pos, float *c, float *s) {
    for (u32 i = 0; i < r->n_rot / 2; i++) {
        double angle = pos * r->speed[i];
        c[i] = (float)(cos(angle) * r->mscale);
        s[i] = (float)(sin(angle) * r->mscale);
    }
}
