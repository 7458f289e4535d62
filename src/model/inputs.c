/* SPDX-License-Identifier: Apache-2.0 */
/* inputs.c: an input of its own for each layer (Gemma 3n and 4): a row of a table of tokens and a
 * product of the embedding, made once a batch; what a layer makes of it is added to its result.
 *
 * Source: src/models/gemma4.cpp of llama-cpp-python 0.3.36; transformers 5.24,
 * models/gemma4/modeling_gemma4.py. */
#include "model/graph.h"
#include <math.h>

static size_t width(const lb_model *m) {
    return (size_t)m->p.n_layers * m->layer_in_dim;
}

/* (norm(product / root of n_embd) + row * root of its length) / root of 2 */
static void blend(lb_context *c, void *arg, u32 t, void *scratch) {
    const lb_model *m = c->m;
    u32 dim = m->layer_in_dim;
    size_t n = width(m);
    float *to = c->layer_in + t * n, *row = (float *)scratch + m->layer_in_scratch;
    u64 at = c->id[t];
    const lb_mat *mat = lb_mat_of_row(lb_swapped(c, m->layer_embd), &at);
    (void)arg;
    lb_mat_row(m->k, mat, at, row, scratch);
    m->k->map_mulc_f32(n, to, to, 1 / sqrtf((float)m->p.n_embd));
    for (u32 i = 0; i < m->p.n_layers; i++)
        lb_apply_norm(m, &m->layer_in_norm, to + (size_t)i * dim, to + (size_t)i * dim);
    m->k->map_fmac_f32(n, to, row, sqrtf((float)dim), to);
    m->k->map_mulc_f32(n, to, to, sqrtf(0.5f));
}

void lb_layer_inputs(lb_context *c) {
    const lb_model *m = c->m;
    lb_acts a;
    lb_acts_make(&a, c->x, m->p.n_embd, m->p.n_embd, c->n, 0);
    lb_project(c, &m->layer_in_proj, &a, c->layer_in, width(m));
    lb_project_run(c);
    lb_each_token(c, c->n, 4 * width(m), blend, NULL);
}

static void gate(lb_context *c, void *arg, u32 t, void *scratch) {
    const lb_model *m = c->m;
    u32 dim = m->layer_in_dim, layer = *(const u32 *)arg;
    float *row = c->ff + (size_t)t * dim;
    (void)scratch;
    m->k->gelu_mul_f32(dim, row, row, c->layer_in + t * width(m) + (size_t)layer * dim);
}

void lb_layer_input(lb_context *c, u32 layer, float *out) {
    const lb_model *m = c->m;
    const lb_layer *l = &m->layer[layer];
    u32 n = m->p.n_embd, dim = m->layer_in_dim;
    lb_acts a;
    lb_acts_make(&a, c->x, n, n, c->n, 0);
    lb_project(c, &l->in_gate, &a, c->ff, dim);
    lb_project_run(c);
    lb_each_token(c, c->n, 4 * dim, gate, &layer);
    lb_acts_make(&a, c->ff, dim, dim, c->n, 1);
    lb_project(c, &l->in_proj, &a, out, n);
    lb_project_run(c);
}
