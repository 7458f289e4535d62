/* SPDX-License-Identifier: Apache-2.0 */
/* device_experts.c: prompts' experts on devices that multiply tiles of f16: tokens become tiles
 * once and are copied to tiles of one expert each, as the routes say; so many experts' matrices as
 * the slots hold are unpacked, then their products are one launch each. Which tiles there are the
 * device alone knows (kern/args_tiles.h).
 *
 * Each row of a product is by itself, and a token's are added in the order of its routes
 * (experts_sum): values depend on no tile's place. */
#include "model/device_rows.h"
#include "model/device_tiles.h"

/* Of a layer's matrices as tiles, and no more than a part of the device's memory; where they are
 * more, some experts go after others. */
#define UNPACKED_BYTES_MAX (1536ull * LB_MIB)
#define UNPACKED_SHARE 32u

static u64 unpacked_most(const lb_context *c) {
    const lb_dev *d = c->device->r->d;
    const u64 budget = lb_dev_budget(d), all = budget ? budget : lb_dev_info_get(d)->memory_bytes;
    return all ? LB_MIN(all / UNPACKED_SHARE, UNPACKED_BYTES_MAX) : UNPACKED_BYTES_MAX;
}

static u64 mat_bytes(const lb_mweight *w) {
    return lb_dev_tile_bytes((u32)w->mats[0].n_rows, (u32)w->mats[0].n_cols, LB_DEV_TILE_PAD);
}

static bool fits(const lb_linear *l) {
    return l->w && l->w->mats && l->w->n_mats == l->w->n_stack && lb_dtile_fits(&l->w->mats[0]);
}

void lb_dexperts_sizes(const lb_context *c, u32 n, lb_dtile_sizes *s) {
    const lb_model *m = c->m;
    const lb_group_args routes = {n * m->p.n_expert_used, m->p.n_expert};
    const u64 most = unpacked_most(c);
    lb_dev_shape shape;
    lb_err none;
    u32 n_ff = 0;
    for (u32 i = 0; i < m->p.n_layers; i++) {
        const lb_layer *l = &m->layer[i];
        if (!fits(&l->gate_exps) || !fits(&l->up_exps) || !fits(&l->down_exps))
            continue;
        const u64 one =
            mat_bytes(l->gate_exps.w) + mat_bytes(l->up_exps.w) + mat_bytes(l->down_exps.w);
        const u64 all = LB_MAX(LB_MIN(one * m->p.n_expert, most), one);
        s->slot = LB_MAX(s->slot, lb_round_up(lb_ceil_div_u64(all, 2), LB_DEV_TILE_BYTES));
        n_ff = LB_MAX(n_ff, (u32)l->down_exps.w->n_cols);
    }
    if (!n_ff || lb_dev_kernel_shape(LB_DK_routes_tiles, &routes, &shape, &none) != LB_OK)
        return;
    const u32 n_rows = lb_dev_plan_tiles(routes.n_routes, routes.n_mats) * LB_DEV_TILE_ROWS;
    s->n_cols = LB_MAX(s->n_cols, m->p.n_embd);
    s->plan = shape.need_bytes[1];
    s->routed = lb_dev_tile_bytes(n_rows, m->p.n_embd, LB_DEV_TILE_ROWS);
    s->gated = lb_dev_tile_bytes(n_rows, n_ff, LB_DEV_TILE_ROWS);
    s->powers = 4ull * n_rows;
}

static u64 unpacked_bytes(const lb_dmat *m) {
    return lb_dev_tile_bytes(m->args.n_rows, m->args.n_cols, LB_DEV_TILE_PAD);
}

/* How many experts the slots hold: all gates, all partners, all of down. */
static u32 experts_at_once(const lb_context *c, const lb_dexperts *e) {
    const u64 one = 2 * unpacked_bytes(e->gate->parts) + unpacked_bytes(e->down->parts);
    return (u32)LB_MIN(lb_dev_buf_bytes(c->device->buf[LB_DBUF_SLOTS]) / one,
                       (u64)c->m->p.n_expert);
}

static bool has_kernels(const lb_context *c) {
    static const lb_dev_kernel all[] = {LB_DK_routes_count,       LB_DK_routes_tiles,
                                        LB_DK_tile_routes,        LB_DK_tile_rows,
                                        LB_DK_gemm_experts_gated, LB_DK_gemm_experts};
    bool has = true;
    for (u32 i = 0; i < LB_LEN(all); i++)
        has &= lb_dev_has(c->device->r->d, all[i]);
    return has;
}

bool lb_dexperts_tiled(const lb_context *c, const lb_dexperts *e) {
    const lb_dlinear *const all[] = {e->gate, e->up, e->down};
    const u32 from = lb_dev_info_get(c->device->r->d)->tuning.gemm_experts;
    const u32 n_rows = lb_dev_plan_tiles(e->n * e->used, c->m->p.n_expert) * LB_DEV_TILE_ROWS;
    if (!c->device->slot_bytes || !has_kernels(c) || c->o.sums || !from || e->n < from ||
        e->in.pre || e->in.stride % 4 || !e->gate->parts || !e->gate->bias.buf != !e->up->bias.buf)
        return false;
    bool rows = true;
    for (u32 i = 0; i < LB_LEN(all); i++) {
        if (all[i]->n_parts != 1 || !lb_dmat_tiled(c, all[i]->parts))
            return false;
        rows &= lb_dmat_by_rows(c, all[i]->parts, e->n * e->used);
    }
    return !rows && experts_at_once(c, e) &&
           lb_dev_buf_bytes(c->device->buf[LB_DBUF_ROUTED]) >=
               lb_dev_tile_bytes(n_rows, e->up->n_cols, LB_DEV_TILE_ROWS);
}

/* The plan, and tokens' tiles as it has them, to LB_DBUF_ROUTED. */
static lb_status gather(const lb_context *c, const lb_dexperts *e, lb_err *err) {
    const lb_group_args plan = {e->n * e->used, c->m->p.n_expert};
    const lb_tile_routes_args a = {plan.n_routes, plan.n_mats, e->used, e->up->n_cols};
    const lb_dev_arg of[] = {lb_dbuf_arg(c, LB_DBUF_ROUTES), lb_dbuf_arg(c, LB_DBUF_PLAN)};
    const lb_dev_arg buf[] = {lb_dbuf_arg(c, LB_DBUF_TILES), lb_dbuf_arg(c, LB_DBUF_POWERS), of[1],
                              lb_dbuf_arg(c, LB_DBUF_ROUTED), lb_dbuf_arg(c, LB_DBUF_TIMES)};
    LB_TRY(lb_dlaunch(c, LB_DK_routes_count, of, &plan, err));
    LB_TRY(lb_dtile_rows(c, &e->in, e->n, e->up->n_cols, err));
    LB_TRY(lb_dbarrier(c, err));
    LB_TRY(lb_dlaunch(c, LB_DK_routes_tiles, of, &plan, err));
    LB_TRY(lb_dbarrier(c, err));
    return lb_dlaunch(c, LB_DK_tile_routes, buf, &a, err);
}

/* Matrices [first, first + n) of a stack, so many with a launch as its grid takes. */
static lb_status unpack(const lb_context *c, const lb_dmat *m, u32 first, u32 n, lb_dev_arg to,
                        lb_err *err) {
    const u32 groups = (u32)lb_round_up(m->args.n_rows, LB_DEV_TILE_PAD) / 32;
    const u32 most = LB_MAX(LB_DEV_GRID_Y_MAX / groups, 1u);
    for (u32 done = 0; done < n; done += most) {
        const lb_unpack_args a = {.n_rows = m->args.n_rows,
                                  .n_cols = m->args.n_cols,
                                  .group_elems = m->args.group_elems,
                                  .scale_type = m->args.scale_type,
                                  .scale_rows = m->args.scale_rows,
                                  .n_mats = m->args.n_mats,
                                  .mat = first + done,
                                  .n = m->args.n_rows,
                                  .n_more = LB_MIN(most, n - done) - 1};
        lb_dev_arg buf[LB_DEV_BUFS_MAX];
        const u32 at = lb_dmat_args(m, buf);
        buf[at] = to;
        buf[at].off_bytes += done * unpacked_bytes(m);
        LB_TRY(lb_dlaunch(c, m->kernel[LB_DEV_UNPACK], buf, &a, err));
    }
    return LB_OK;
}

/* Of experts [first, first + n). */
static lb_status run_part(const lb_context *c, const lb_dexperts *e, u32 first, u32 n,
                          lb_err *err) {
    const lb_dmat *gate = e->gate->parts, *up = e->up->parts, *down = e->down->parts;
    const lb_dev_arg none = c->device->r->zeros, b = lb_dbuf_arg(c, LB_DBUF_SLOTS);
    const lb_dev_arg powers = lb_dbuf_arg(c, LB_DBUF_TIMES);
    const lb_dev_arg plan = lb_dbuf_arg(c, LB_DBUF_PLAN), tiles = lb_dbuf_arg(c, LB_DBUF_GATED);
    const lb_dev_arg partners = {b.buf, n * unpacked_bytes(gate)};
    const lb_dev_arg downs = {b.buf, 2 * partners.off_bytes};
    lb_gemm_experts_args a = {.n_routes = e->n * e->used,
                              .n_mats = c->m->p.n_expert,
                              .n_rows = gate->args.n_rows,
                              .n_cols = gate->args.n_cols,
                              .first_mat = first,
                              .n_b = n,
                              .has_bias = e->gate->bias.buf != NULL,
                              .times = gate->args.times,
                              .up_times = up->args.times,
                              .act = e->act,
                              .alpha = LB_OAI_ALPHA,
                              .limit = LB_OAI_LIMIT};
    LB_TRY(unpack(c, gate, first, n, b, err));
    LB_TRY(unpack(c, up, first, n, partners, err));
    LB_TRY(unpack(c, down, first, n, downs, err));
    LB_TRY(lb_dbarrier(c, err));
    LB_TRY(lb_dlaunch(c, LB_DK_gemm_experts_gated,
                      (lb_dev_arg[]){lb_dbuf_arg(c, LB_DBUF_ROUTED), powers, plan, b,
                                     a.has_bias ? e->gate->bias : none,
                                     a.has_bias ? e->up->bias : none, tiles},
                      &a, err));
    LB_TRY(lb_dbarrier(c, err));
    a.n_rows = down->args.n_rows;
    a.n_cols = down->args.n_cols;
    a.has_bias = e->down->bias.buf != NULL;
    a.times = down->args.times;
    a.a_scale = LB_DEV_GATED_SCALE;
    LB_TRY(lb_dlaunch(
        c, LB_DK_gemm_experts,
        (lb_dev_arg[]){tiles, powers, plan, downs, a.has_bias ? e->down->bias : none, e->rows}, &a,
        err));
    return lb_dbarrier(c, err);
}

lb_status lb_dexperts_run(const lb_context *c, const lb_dexperts *e, lb_err *err) {
    const u32 n_mats = c->m->p.n_expert, most = experts_at_once(c, e);
    LB_TRY(gather(c, e, err));
    for (u32 first = 0; first < n_mats; first += most)
        LB_TRY(run_part(c, e, first, LB_MIN(most, n_mats - first), err));
    return LB_OK;
}
