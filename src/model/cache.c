/* SPDX-License-Identifier: Apache-2.0 */
/* cache.c: see cache.h. */
#include "model/cache.h"
#include "base/mem.h"

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM,
                   "out of memory for keys and values: a smaller context (--ctx) "
                   "or --kv-type q8_0 needs less");
}

/* Bytes of a row of n elements, a multiple of 16. */
static lb_status row_bytes(lb_dtype type, u32 n, u32 *out, lb_err *err) {
    u64 bytes;
    if (!lb_dtype_bytes(type, n, &bytes))
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "keys and values of %u elements are no whole blocks of %s: use f16", n,
                       lb_dtype_get(type)->name);
    *out = (u32)((bytes + 15) & ~(u64)15);
    return LB_OK;
}

/* Of values: llama.cpp's block too. */
#define V_MIX_MAX 64u
#define MIX_MIN 32u

/* The largest power of two that divides n. */
static u32 power_in(u32 n) {
    return n & (~n + 1);
}

static lb_status set_mix(lb_cache_layer *l, u32 k_dim, u32 v_dim, lb_err *err) {
    l->k_mix = power_in(k_dim);
    l->v_mix = LB_MIN(power_in(v_dim), V_MIX_MAX);
    if (l->v_in_k)
        l->k_mix = l->v_mix = LB_MIN(l->k_mix, l->v_mix);
    u32 dim = l->k_mix < MIX_MIN ? k_dim : v_dim;
    return l->k_mix < MIX_MIN || l->v_mix < MIX_MIN
               ? lb_fail(err, LB_E_UNSUPPORTED,
                         "keys and values of %u elements cannot be rotated, which takes a multiple "
                         "of %u: --kv-rotate off",
                         dim, MIX_MIN)
               : LB_OK;
}

static lb_status lay_out(lb_cache *c, const lb_params *p, u32 i, lb_err *err) {
    const lb_layer_params *l = &p->layer[i];
    lb_cache_layer *out = &c->layer[i];
    if (l->recurrent) {
        out->state_off = c->state_bytes;
        u64 taps = p->conv_width ? p->conv_width - 1 : 0;
        u64 channels =
            p->ssm_inner ? p->ssm_inner + 2ull * p->ssm_groups * p->ssm_state : p->n_embd;
        u64 net = p->ssm_heads ? (u64)p->ssm_inner * p->ssm_state : 0;
        out->state_bytes = (taps * channels + net) * sizeof(float);
        c->state_bytes += (out->state_bytes + 63) & ~(u64)63;
        return LB_OK;
    }
    if (!l->n_head_kv || l->kv_layer != i)
        return LB_OK;
    out->n_head_kv = l->n_head_kv;
    out->v_in_k = p->kv_rank != 0 && l->v_dim == p->kv_rank && l->n_head_kv == 1;
    LB_TRY(row_bytes(c->type, l->k_dim, &out->k_bytes, err));
    if (c->rotated)
        LB_TRY(set_mix(out, l->k_dim, l->v_dim, err));
    out->k_off = c->page_bytes;
    c->page_bytes += (u64)l->n_head_kv * LB_PAGE_ROWS * out->k_bytes;
    if (out->v_in_k) {
        out->v_off = out->k_off;
        out->v_bytes = out->k_bytes;
        return LB_OK;
    }
    LB_TRY(row_bytes(c->type, l->v_dim, &out->v_bytes, err));
    out->v_off = c->page_bytes;
    c->page_bytes += (u64)l->n_head_kv * LB_PAGE_ROWS * out->v_bytes;
    return LB_OK;
}

/* Sizes, and where things lie in a page and in a state. */
lb_status lb_cache_lay_out(lb_cache *c, const lb_params *p, const lb_cache_kind *kind, u32 n_ctx,
                           u32 n_seqs, lb_err *err) {
    *c = (lb_cache){.type = kind->type,
                    .rotated = kind->rotated,
                    .n_layers = p->n_layers,
                    .n_seqs = n_seqs,
                    .n_ctx = n_ctx,
                    .copy = kind->copy,
                    .step = kind->step,
                    .user = kind->user};
    u64 n_pages = ((u64)n_ctx + LB_PAGE_ROWS - 1) / LB_PAGE_ROWS;
    /* one more: a page that sequences share is copied before the old one goes */
    if (n_pages * n_seqs >= UINT32_MAX)
        return lb_fail(err, LB_E_LIMIT, "%u sequences of %u positions are too many", n_seqs, n_ctx);
    c->n_pages_max = (u32)(n_pages * n_seqs + 1);
    c->layer = lb_alloc_zero(p->n_layers, sizeof *c->layer);
    if (!c->layer)
        return oom(err);
    for (u32 i = 0; i < p->n_layers; i++) {
        LB_TRY(lay_out(c, p, i, err));
        if (!kind->copy || i < kind->n_host) {
            c->host_bytes = c->page_bytes;
            c->host_state_bytes = c->state_bytes;
        }
    }
    return LB_OK;
}

/* What a block of the heap takes beside its bytes, at most (pages: as lb_cache_rest_bytes). */
#define BLOCK_BYTES_MORE (4 * LB_KIB)

lb_status lb_cache_count(const lb_params *p, const lb_cache_kind *kind, u32 n_ctx, u32 n_seqs,
                         u64 *out, lb_err *err) {
    lb_cache c;
    lb_status st = lb_cache_lay_out(&c, p, kind, n_ctx, n_seqs, err);
    u64 pages = 0,
        of_page = sizeof *c.page + sizeof *c.refs + sizeof *c.unused + sizeof *c.seq->page;
    u64 of_seq =
        sizeof *c.seq + (u64)n_ctx * sizeof *c.seq->id + 2 * c.state_bytes + 4 * BLOCK_BYTES_MORE;
    bool fits = lb_mul_u64(c.page_bytes + of_page, c.n_pages_max, &pages);
    *out = fits ? pages + n_seqs * of_seq + p->n_layers * sizeof *c.layer + 4 * BLOCK_BYTES_MORE
                : UINT64_MAX;
    lb_cache_deinit(&c);
    return st;
}

lb_status lb_cache_init(lb_cache *c, const lb_params *p, const lb_cache_kind *kind, u32 n_ctx,
                        u32 n_seqs, lb_err *err) {
    LB_TRY(lb_cache_lay_out(c, p, kind, n_ctx, n_seqs, err));
    u64 n_pages = ((u64)n_ctx + LB_PAGE_ROWS - 1) / LB_PAGE_ROWS;
    c->page = lb_alloc_zero(c->n_pages_max, sizeof *c->page);
    c->refs = lb_alloc_zero(c->n_pages_max, sizeof *c->refs);
    c->unused = lb_alloc_zero(c->n_pages_max, sizeof *c->unused);
    c->seq = lb_alloc_zero(n_seqs, sizeof *c->seq);
    if (!c->page || !c->refs || !c->unused || !c->seq)
        return oom(err);
    for (u32 i = 0; i < c->n_pages_max; i++)
        c->unused[i] = c->n_pages_max - 1 - i;
    c->n_unused = c->n_pages_max;
    for (u32 i = 0; i < n_seqs; i++) {
        lb_cache_seq *s = &c->seq[i];
        s->page = lb_alloc_zero(n_pages + 1, sizeof *s->page);
        s->state = c->host_state_bytes ? lb_alloc_zero(1, c->host_state_bytes) : NULL;
        s->id = lb_alloc_zero(n_ctx, sizeof *s->id);
        if (!s->page || !s->id || (c->host_state_bytes && !s->state))
            return oom(err);
    }
    return LB_OK;
}

void lb_cache_deinit(lb_cache *c) {
    for (u32 i = 0; c->page && i < c->n_pages_max; i++)
        lb_free(c->page[i]);
    for (u32 i = 0; c->seq && i < c->n_seqs; i++) {
        lb_free(c->seq[i].id);
        lb_free(c->seq[i].page);
        lb_free(c->seq[i].state);
        lb_free(c->seq[i].mark);
    }
    lb_free(c->layer);
    lb_free(c->page);
    lb_free(c->refs);
    lb_free(c->unused);
    lb_free(c->seq);
    *c = (lb_cache){0};
}

static void drop_page(lb_cache *c, u32 page) {
    if (--c->refs[page] == 0)
        c->unused[c->n_unused++] = page;
}

static lb_status new_page(lb_cache *c, u32 *out, lb_err *err) {
    if (!c->n_unused)
        return lb_fail(err, LB_E_LIMIT, "the context of %u positions is full (--ctx)", c->n_ctx);
    u32 page = c->unused[c->n_unused - 1];
    if (!c->page[page] && c->host_bytes) {
        c->page[page] = lb_alloc(c->host_bytes);
        if (!c->page[page])
            return oom(err);
    }
    c->n_unused--;
    c->refs[page] = 1;
    *out = page;
    return LB_OK;
}

/* A page that others have too is copied. */
static lb_status own_page(lb_cache *c, u32 *page, lb_err *err) {
    u32 copy;
    if (c->refs[*page] == 1)
        return LB_OK;
    LB_TRY(new_page(c, &copy, err));
    if (c->host_bytes)
        memcpy(c->page[copy], c->page[*page], c->host_bytes);
    if (c->copy) {
        const lb_status st = c->copy(c->user, copy, *page, err);
        if (st != LB_OK) {
            drop_page(c, copy);
            return st;
        }
    }
    drop_page(c, *page);
    *page = copy;
    return LB_OK;
}

lb_status lb_cache_own(lb_cache *c, u32 seq, u32 first_page, lb_err *err) {
    lb_cache_seq *s = &c->seq[seq];
    for (u32 i = first_page; i < s->n_pages; i++)
        LB_TRY(own_page(c, &s->page[i], err));
    return LB_OK;
}

lb_status lb_cache_grow(lb_cache *c, u32 seq, u32 n, lb_err *err) {
    lb_cache_seq *s = &c->seq[seq];
    u32 rest = s->length % LB_PAGE_ROWS, page;
    if (n > c->n_ctx || s->length > c->n_ctx - n)
        return lb_fail(err, LB_E_LIMIT, "%llu positions: the context has %u (--ctx)",
                       (unsigned long long)s->length + n, c->n_ctx);
    if (n && rest)
        LB_TRY(own_page(c, &s->page[s->n_pages - 1], err));
    while ((u64)s->n_pages * LB_PAGE_ROWS < (u64)s->length + n) {
        LB_TRY(new_page(c, &page, err));
        s->page[s->n_pages++] = page;
    }
    return LB_OK;
}

/* Whether states lie elsewhere, too. */
static bool has_states_elsewhere(const lb_cache *c) {
    return c->state_bytes > c->host_state_bytes;
}

lb_status lb_cache_mark(lb_cache *c, u32 seq, lb_err *err) {
    lb_cache_seq *s = &c->seq[seq];
    if (!c->state_bytes)
        return LB_OK;
    s->marked = false;
    if (has_states_elsewhere(c))
        LB_TRY(c->step(c->user, LB_STATE_MARK, seq, seq, err));
    if (s->state && !s->mark)
        s->mark = lb_alloc(c->host_state_bytes);
    if (s->state && !s->mark)
        return oom(err);
    if (s->state)
        memcpy(s->mark, s->state, c->host_state_bytes);
    s->mark_length = s->length;
    s->marked = true;
    return LB_OK;
}

/* The state of the mark. */
static bool go_back(const lb_cache *c, u32 seq) {
    lb_err ignored;
    if (has_states_elsewhere(c) && c->step(c->user, LB_STATE_BACK, seq, seq, &ignored) != LB_OK)
        return false;
    if (c->host_state_bytes)
        memcpy(c->seq[seq].state, c->seq[seq].mark, c->host_state_bytes);
    return true;
}

bool lb_cache_cut(lb_cache *c, u32 seq, u32 n) {
    lb_cache_seq *s = &c->seq[seq];
    u32 n_pages = (n + LB_PAGE_ROWS - 1) / LB_PAGE_ROWS;
    bool back = c->state_bytes && n && n < s->length;
    if (n > s->length || (back && !(s->marked && s->mark_length == n)))
        return false;
    if (back && !go_back(c, seq))
        return false;
    s->marked = s->marked && s->mark_length <= n;
    while (s->n_pages > n_pages)
        drop_page(c, s->page[--s->n_pages]);
    if (s->state && !n)
        memset(s->state, 0, c->host_state_bytes);
    s->length = n;
    return true;
}

lb_status lb_cache_copy(lb_cache *c, u32 from, u32 to, u32 n, lb_err *err) {
    lb_cache_seq *a = &c->seq[from], *b = &c->seq[to];
    if (n > a->length || (c->state_bytes && n != a->length))
        return lb_fail(err, LB_E_UNSUPPORTED, "a sequence cannot be taken up at position %u", n);
    (void)lb_cache_cut(c, to, 0);
    if (has_states_elsewhere(c))
        LB_TRY(c->step(c->user, LB_STATE_COPY, to, from, err));
    if (a->state)
        memcpy(b->state, a->state, c->host_state_bytes);
    b->n_pages = (n + LB_PAGE_ROWS - 1) / LB_PAGE_ROWS;
    for (u32 i = 0; i < b->n_pages; i++) {
        b->page[i] = a->page[i];
        c->refs[b->page[i]]++;
    }
    memcpy(b->id, a->id, n * sizeof *b->id);
    b->length = n;
    b->marked = false;
    return LB_OK;
}

u8 *lb_cache_keys(const lb_cache *c, u32 layer, u32 page, u32 head) {
    const lb_cache_layer *l = &c->layer[layer];
    return c->page[page] + l->k_off + (u64)head * LB_PAGE_ROWS * l->k_bytes;
}

u8 *lb_cache_values(const lb_cache *c, u32 layer, u32 page, u32 head) {
    const lb_cache_layer *l = &c->layer[layer];
    return c->page[page] + l->v_off + (u64)head * LB_PAGE_ROWS * l->v_bytes;
}

u64 lb_cache_rest_bytes(const lb_cache *c) {
    const u64 all = c->n_pages_max * c->page_bytes + 2 * c->n_seqs * c->state_bytes;
    return c->copy && !c->host_bytes ? 0 : all - lb_cache_bytes(c);
}

u64 lb_cache_bytes(const lb_cache *c) {
    u64 n = c->n_seqs * c->state_bytes;
    for (u32 i = 0; i < c->n_pages_max; i++) {
        n += c->copy ? c->page_bytes - c->host_bytes : 0;
        n += c->page[i] ? c->host_bytes : 0;
    }
    for (u32 i = 0; i < c->n_seqs; i++)
        n += c->seq[i].mark ? c->host_state_bytes : 0;
    return n;
}
