/* SPDX-License-Identifier: Apache-2.0 */
/* gpus_show.c: --dry-run of commands that run a model. */
#include "cli/gpus.h"
#include "cli/text.h"
#include "io/json.h"

/* What one device has, or the CPU. */
typedef struct part {
    const char *device;
    u32 first, end; /* layers */
    u64 weights, kv, buffers;
    u64 memory; /* 0: not known */
} part;

static u32 list_parts(const lb_gpus *g, const lb_resident_plan *plan, const part *host, part *out) {
    const lb_placing *p = &plan->placing;
    u32 n = 0, first = p->n_host;
    bool unused;
    if (p->n_host)
        out[n++] = *host;
    for (u32 i = 0; i < p->n_devices; i++) {
        out[n++] = (part){.device = lb_gpus_name(g, i),
                          .first = first,
                          .end = p->end[i],
                          .weights = plan->weights[i],
                          .kv = plan->kv[i],
                          .buffers = plan->buffers,
                          .memory = lb_gpus_memory(g->dev[i], &unused)};
        first = plan->ranks ? p->n_host : p->end[i];
    }
    return n;
}

static void put_size(lb_table *t, u64 bytes) {
    char text[LB_TEXT_BYTES];
    lb_table_printf(t, "%s", bytes ? lb_size_text(bytes, text) : "");
}

static void put_text(lb_buf *out, const part *p, u32 n, u32 n_ctx) {
    static const char *const heads[] = {"device",  "layers",   "weights", "keys and values",
                                        "buffers", "together", "of"};
    lb_table t = {.n_columns = LB_LEN(heads), .right = 2 | 4 | 8 | 16 | 32 | 64};
    for (u32 i = 0; i < LB_LEN(heads); i++)
        lb_table_printf(&t, "%s", heads[i]);
    for (u32 i = 0; i < n; i++) {
        lb_table_printf(&t, "%s", p[i].device);
        lb_table_printf(&t, "%u to %u", p[i].first, p[i].end - 1);
        put_size(&t, p[i].weights);
        put_size(&t, p[i].kv);
        put_size(&t, p[i].buffers);
        put_size(&t, p[i].weights + p[i].kv + p[i].buffers);
        put_size(&t, p[i].memory);
    }
    lb_table_end(&t, 0, out);
    lb_buf_deinit(&t.text);
    lb_buf_printf(out, "for a session of %u positions (--ctx)\n", n_ctx);
}

static void put_json(lb_cli *cli, const part *p, u32 n, u32 n_ctx) {
    lb_arena *a = &cli->arena;
    lb_json *root = lb_json_new_object(a), *list = lb_json_new_array(a);
    bool ok = lb_json_set(a, root, "ctx", lb_json_new_u64(a, n_ctx));
    for (u32 i = 0; i < n && ok; i++) {
        lb_json *o = lb_json_new_object(a), *layers = lb_json_new_array(a);
        ok = lb_json_push(layers, lb_json_new_u64(a, p[i].first)) &&
             lb_json_push(layers, lb_json_new_u64(a, p[i].end)) &&
             lb_json_set(a, o, "device", lb_json_new_str(a, lb_str_c(p[i].device))) &&
             lb_json_set(a, o, "layers", layers) &&
             lb_json_set(a, o, "weights_bytes", lb_json_new_u64(a, p[i].weights)) &&
             lb_json_set(a, o, "kv_bytes", lb_json_new_u64(a, p[i].kv)) &&
             lb_json_set(a, o, "buffers_bytes", lb_json_new_u64(a, p[i].buffers)) &&
             lb_json_set(a, o, "memory_bytes", lb_json_new_u64(a, p[i].memory)) &&
             lb_json_push(list, o);
    }
    ok = ok && lb_json_set(a, root, "parts", list);
    cli->out.oom = cli->out.oom || !ok;
    lb_json_write(&cli->out, root, (lb_json_style){0});
    lb_buf_put_c(&cli->out, "\n");
}

lb_status lb_gpus_show(lb_gpus *g, lb_cli *cli, const lb_model *m, const lb_context_opts *session,
                       const lb_common *common, u64 host_bytes, lb_err *err) {
    lb_resident_plan plan;
    part host = {.device = "cpu"}, parts[LB_PLACES_MAX + 1];
    LB_TRY(lb_gpus_plan(g, &plan, m, session, err));
    LB_TRY(lb_context_room(m, session, &host.kv, &host.buffers, err));
    host.end = plan.placing.n_host;
    host.weights = g->n ? plan.host_weights : host_bytes;
    host.kv = g->n ? plan.host_kv : host.kv;
    const u32 n = list_parts(g, &plan, &host, parts);
    if (common->json)
        put_json(cli, parts, n, session->n_ctx);
    else
        put_text(&cli->out, parts, n, session->n_ctx);
    return LB_OK;
}
