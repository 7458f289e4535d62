/* SPDX-License-Identifier: Apache-2.0 */
/* print.c: a job as one line of text, as --dry-run shows it. */
#include "plan/draw.h"
#include "plan/encoder.h"
#include "plan/plan.h"

static const char *const index_names[] = {
#define LB_INDEX_OP(id, name) name,
#include "plan/ops.def"
};
static const char *const make_names[] = {
#define LB_MAKE_OP(id, name) name,
#include "plan/ops.def"
};
static const char *const map_names[] = {
#define LB_MAP_OP(id, name) name,
#include "plan/ops.def"
};
static const char *const row_names[] = {
#define LB_ROW_OP(id, name) name,
#include "plan/ops.def"
};
static const char *const dense_names[] = {
#define LB_DENSE_OP(id, name) name,
#include "plan/ops.def"
};
static const char *const stat_names[] = {
#define LB_STAT_OP(id, name) name,
#include "plan/ops.def"
};

/* A graph may share at every level, its text would double each time: it ends at a length. */
#define DEPTH_MAX 64
#define TEXT_MAX ((size_t)16 << 10)

typedef struct printer {
    const lb_plan *plan;
    lb_buf *out;
    size_t end; /* beyond it no more nodes are begun */
    u32 depth;
} printer;

static void print_node(printer *p, lb_node_id id);

static void print_inputs(printer *p, const lb_node *n) {
    for (u32 i = 0; i < n->n_in; i++) {
        lb_buf_put_c(p->out, i ? " ; " : " <- ");
        if (n->n_in > 1)
            lb_buf_put_c(p->out, "(");
        print_node(p, n->in[i]);
        if (n->n_in > 1)
            lb_buf_put_c(p->out, ")");
    }
}

static void print_strides(const lb_strides *s, lb_buf *out) {
    lb_buf_printf(out, " %llu+%llu*%llu*%llu+%llu", (unsigned long long)s->from,
                  (unsigned long long)s->n, (unsigned long long)s->step, (unsigned long long)s->run,
                  (unsigned long long)s->jump);
}

static void print_index(const lb_node *n, lb_buf *out) {
    lb_buf_printf(out, "index(%s", index_names[n->op]);
    if (n->op == LB_INDEX_ROWS)
        lb_buf_printf(out, " %llu+%llu*%llu", (unsigned long long)n->u.index.from,
                      (unsigned long long)n->n_rows, (unsigned long long)n->u.index.step);
    else if (n->op == LB_INDEX_HEADS || n->op == LB_INDEX_UNHEADS)
        lb_buf_printf(out, " %llu", (unsigned long long)(n->n_rows / (2 * n->u.index.half)));
    else if (n->op == LB_INDEX_RUNS)
        lb_buf_printf(out, " %llu+%llu*%llu/%llu", (unsigned long long)n->u.index.from,
                      (unsigned long long)n->n_rows, (unsigned long long)n->u.index.step,
                      (unsigned long long)n->u.index.half);
    else if (n->op == LB_INDEX_GATHER) {
        char hex[33];
        lb_hash_hex(lb_xxh128(n->u.index.table, n->n_rows * sizeof *n->u.index.table), hex);
        lb_buf_printf(out, " %s", hex);
    } else if (n->op == LB_INDEX_STRIDES)
        print_strides(n->u.index.strides, out);
    else if (n->op == LB_INDEX_EVERY)
        lb_buf_printf(out, " %llu/%llu", (unsigned long long)n->u.index.from,
                      (unsigned long long)n->u.index.step);
    else if (n->op == LB_INDEX_COLS)
        lb_buf_printf(out, " %llu+%llu", (unsigned long long)n->u.index.from,
                      (unsigned long long)n->n_cols);
    lb_buf_put_c(out, ")");
}

static void print_ranks(const lb_ranks *r, lb_buf *out) {
    for (u32 i = 0; i < r->n && r->of_nonzero == 0; i++)
        lb_buf_printf(out, "%s %llu", i ? "," : "", (unsigned long long)r->rank[i]);
    if (r->of_nonzero > 0)
        lb_buf_printf(out, " %.9g of what is not 0", r->of_nonzero);
}

static void print_make(const lb_node *n, lb_buf *out) {
    if (n->op == LB_MAKE_CONST) {
        char hex[33];
        lb_hash_hex(lb_xxh128(n->u.make.values, n->n_rows * n->n_cols * sizeof(float)), hex);
        lb_buf_printf(out, "make(const %s)", hex);
    } else if (n->op == LB_MAKE_RESULTS) {
        lb_buf_put_c(out, "make(results)");
    } else if (n->op == LB_MAKE_DRAW) {
        const lb_draw *d = n->u.make.draw;
        static const char *const kinds[] = {"torch.randn", "torch.rand", "normal"};
        lb_buf_printf(out, "make(%s %llu)", kinds[d->kind],
                      (unsigned long long)(d->kind == LB_DRAW_NORMAL ? d->stream : d->first));
    } else {
        lb_buf_printf(out, "make(%s %.9g)", make_names[n->op], n->u.make.p);
    }
}

static void print_scalar(printer *p, const lb_node *n) {
    lb_buf *out = p->out;
    const lb_scalar *s = &n->u.scalar;
    if (!lb_map_has_number((lb_map_op)n->op))
        return;
    if (s->stat == LB_NODE_NONE) {
        lb_buf_printf(out, " %.17g", s->value);
        return;
    }
    lb_buf_printf(out, " fn%d[%u] of (", (int)s->fn, s->result);
    print_node(p, s->stat);
    lb_buf_put_c(out, ")");
}

/* A line of the plan stays one, whatever stands in a file's names. */
static void put_name(lb_buf *out, lb_str name) {
    for (size_t i = 0; i < name.len; i++) {
        u8 c = (u8)name.ptr[i];
        if (c < 0x20)
            lb_buf_printf(out, "\\x%02x", (unsigned)c);
        else
            lb_buf_put_u8(out, c);
    }
}

static void print_read(const lb_plan *p, const lb_node *n, lb_buf *out) {
    lb_buf_put_c(out, "read ");
    put_name(out, n->u.read.weight->name);
    if (p->graph.n_sources > 1)
        lb_buf_printf(out, " of %.*s", LB_FMT(p->graph.sources[n->u.read.source]->label));
}

static void print_decode(const lb_plan *p, const lb_node *n, lb_buf *out) {
    while (n->kind != LB_NODE_READ)
        n = lb_graph_node(&p->graph, n->in[0]);
    const lb_weight *w = n->u.read.weight;
    const lb_tensor *t = &p->graph.sources[n->u.read.source]->tensors[w->part[0]];
    static const char *const foreign[] = {"fp8", "int8",    "packed",   "fp4",  "fp4",
                                          "nf4", "bnb fp4", "bnb int8", "gptq", "awq"};
    if (w->enc.kind >= LB_ENC_FOREIGN)
        lb_buf_printf(out, "decode %s %u bit g%u", foreign[w->enc.kind - LB_ENC_FOREIGN],
                      w->enc.bits, w->enc.group_size);
    else if (w->enc.bits)
        lb_buf_printf(out, "decode mlx %u bit g%u", w->enc.bits, w->enc.group_size);
    else
        lb_buf_printf(out, "decode %s", lb_dtype_get(t->dtype)->name);
}

static void print_node(printer *p, lb_node_id id) {
    const lb_node *n = lb_graph_node(&p->plan->graph, id);
    lb_buf *out = p->out;
    if (p->depth == DEPTH_MAX || out->len > p->end) {
        lb_buf_put_c(out, "...");
        return;
    }
    p->depth++;
    switch (n->kind) {
    case LB_NODE_READ:
        print_read(p->plan, n, out);
        break;
    case LB_NODE_MAKE:
        print_make(n, out);
        break;
    case LB_NODE_INDEX:
        print_index(n, out);
        break;
    case LB_NODE_DECODE:
        print_decode(p->plan, n, out);
        break;
    case LB_NODE_MAP:
        lb_buf_printf(out, "map(%s", map_names[n->op]);
        print_scalar(p, n);
        lb_buf_put_c(out, ")");
        break;
    case LB_NODE_ROW:
        lb_buf_printf(out, "row(%s", row_names[n->op]);
        if (n->op == LB_ROW_MOVE)
            print_strides(n->u.strides, out);
        if (n->op == LB_ROW_KL)
            lb_buf_printf(out, " %u", n->u.kl);
        if (n->op == LB_ROW_NM)
            lb_buf_printf(out, " %u:%u", n->u.nm.keep, n->u.nm.of);
        if (n->op == LB_ROW_ODDS)
            lb_buf_printf(out, " %.9g~%.9g", n->u.odds.density, n->u.odds.epsilon);
        if (n->op == LB_ROW_FORMULA)
            lb_buf_printf(out, " %s[%u]", n->u.row.formula->name, n->u.row.result);
        lb_buf_put_c(out, ")");
        break;
    case LB_NODE_STAT:
        lb_buf_printf(out, "stat(%s", stat_names[n->op]);
        if (n->op == LB_STAT_KTH)
            print_ranks(n->u.stat.ranks, out);
        if (n->u.stat.formula)
            lb_buf_printf(out, ", %s", n->u.stat.formula->name);
        lb_buf_put_c(out, ")");
        break;
    case LB_NODE_LOWRANK:
        if (n->op == LB_LOWRANK_PRODUCT)
            lb_buf_put_c(out, "product");
        else
            lb_buf_printf(out, "lowrank(%.9g)", (double)n->u.scale);
        break;
    case LB_NODE_DENSE:
        lb_buf_printf(out, "dense(%s)", dense_names[n->op]);
        break;
    case LB_NODE_ENCODE:
        lb_buf_put_c(out, n->u.encode.bytes    ? "constant"
                          : n->u.encode.quant  ? "quantize"
                          : n->u.encode.repack ? "repack"
                          : lb_graph_node(&p->plan->graph, n->in[0])->value == LB_VALUE_STORED
                              ? "copy"
                              : "encode");
        break;
    default:
        break;
    }
    if (n->kind == LB_NODE_ENCODE && n->u.encode.quant && p->plan->encoder &&
        lb_quant_device_takes(p->plan->encoder, n->u.encode.quant, n->n_cols))
        lb_buf_printf(out, " on %s", lb_quant_device_id(p->plan->encoder));
    print_inputs(p, n);
    p->depth--;
}

void lb_plan_print_segment(const lb_plan *p, const lb_job *j, u32 segment, u32 stream,
                           lb_buf *out) {
    printer x = {.plan = p, .out = out, .end = out->len + TEXT_MAX};
    lb_buf_put_c(out, " <- ");
    print_node(&x, j->segments[segment].root[stream]);
}

void lb_plan_print_job(const lb_plan *p, const lb_job *j, lb_buf *out) {
    char shape[LB_SHAPE_TEXT];
    for (u32 s = 0; s < LB_MAX(j->n_streams, 1); s++) {
        put_name(out, j->n_streams ? j->streams[s].name : LB_STR("(survey) "));
        if (j->n_streams)
            lb_buf_printf(out, " %s %s", lb_dtype_get(j->streams[s].dtype)->name,
                          lb_shape_text(j->streams[s].shape, shape));
        else
            put_name(out, j->name);
        if (j->n_segments)
            lb_plan_print_segment(p, j, 0, s, out);
        if (j->n_segments > 1)
            lb_buf_printf(out, " [and %u more]", j->n_segments - 1);
        lb_buf_put_c(out, "\n");
    }
}
