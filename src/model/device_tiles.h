/* SPDX-License-Identifier: Apache-2.0 */
/* device_tiles.h: within model/: products of prompts through tiles of f16 (device_tiles.c). */
#ifndef LB_MODEL_DEVICE_TILES_H
#define LB_MODEL_DEVICE_TILES_H

#include "model/device_graph.h"

#define LB_DTILED_MAX 4u /* products at a time */

/* What a session's buffers must hold: bytes of the largest matrix as tiles, the widest input of a
 * product and of a dense feed-forward's down, in columns. slot 0: products are not tiled. */
typedef struct lb_dtile_sizes {
    u64 slot;
    u32 n_cols, n_ff;
    u64 plan, routed, powers, gated; /* bytes of what experts need; 0: theirs are not tiled */
} lb_dtile_sizes;
lb_dtile_sizes lb_dtile_sizes_of(const lb_context *c);

/* Whether a matrix can be unpacked to tiles that a product reads. */
bool lb_dtile_fits(const lb_mat *m);
bool lb_dmat_tiled(const lb_context *c, const lb_dmat *m);
/* Whether products of n tokens are tiled where a matrix can be. */
bool lb_dtiled(const lb_context *c, u32 n);
/* Whether all of a product is. */
bool lb_dlinear_tiled(const lb_context *c, const lb_dlinear *l, u32 n);
/* As lb_dproject, of lb_dtiled tokens: in.pre may be NORM; out.sum only where lb_dlinear_tiled. */
lb_status lb_dproject_tiled(const lb_context *c, const lb_dproduct *p, u32 n, lb_err *err);

/* out = down of act(gate of in) * (up of in), n rows. act: LB_DEV_PRE_* behind NORM. */
typedef struct lb_dgated {
    const lb_dlinear *gate, *up, *down;
    bool fused; /* up holds gate's rows, then up's */
    u32 n, act;
    lb_dinput in;
    lb_doutput out;
} lb_dgated;
bool lb_dgated_tiled(const lb_context *c, const lb_dgated *g);
lb_status lb_dgated_run(const lb_context *c, const lb_dgated *g, lb_err *err);

/* Tiles of n tokens to LB_DBUF_TILES, their powers to LB_DBUF_POWERS; no barrier behind it. */
lb_status lb_dtile_rows(const lb_context *c, const lb_dinput *in, u32 n, u32 n_cols, lb_err *err);

/* ---- device_experts.c ---- */

/* s of a model whose experts are tiled, for a batch of n tokens; nothing where they are not. */
void lb_dexperts_sizes(const lb_context *c, u32 n, lb_dtile_sizes *s);

/* rows [n * used, n_embd], of each route that LB_DBUF_ROUTES has: down of act(gate of in) * (up of
 * in), with biases. act: LB_DEV_PRE_* behind NORM. */
typedef struct lb_dexperts {
    const lb_dlinear *gate, *up, *down;
    u32 n, used, act;
    lb_dinput in;
    lb_dev_arg rows;
} lb_dexperts;
bool lb_dexperts_tiled(const lb_context *c, const lb_dexperts *e);
/* A barrier stands behind it. */
lb_status lb_dexperts_run(const lb_context *c, const lb_dexperts *e, lb_err *err);

/* ---- device_forward.c ---- */

/* lb_dproject by mv_* and mm_*. */
lb_status lb_dproject_plain(const lb_context *c, const lb_dproduct *p, u32 n_products, lb_err *err);
/* Nothing where there is none; no barrier behind it. */
lb_status lb_dadd_bias(const lb_context *c, const lb_dproduct *p, lb_err *err);

#endif
