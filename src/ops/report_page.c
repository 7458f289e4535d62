/* SPDX-License-Identifier: Apache-2.0 */
/* report_page.c: the page: its head, a card for each model, plots and the tables that go with them.
 */
#include "base/hash.h"
#include "base/os.h"
#include "format/gguf_meta.h"
#include "io/json.h"
#include "io/size.h"
#include "ops/report_internal.h"
#include "quant/recipe.h"
#include <math.h>
#include <stdio.h>

#define RUNS_MAX 24  /* stretches of layers in one cell */
#define FACTS_MAX 64 /* provenance */
#define LBRX_JSON_MAX ((u64)256 << 20)

static void cell_size(lb_page *p, u64 n) {
    char size[LB_SIZE_TEXT];
    lb_buf_printf(p->b, "<td class=\"n\" data-v=\"%llu\">%s</td>", (unsigned long long)n,
                  lb_size_text(n, size));
}

static void cell_share(lb_page *p, u64 n, u64 all) {
    double share = all ? (double)n / (double)all * 100 : 0;
    lb_buf_printf(p->b, "<td class=\"n\" data-v=\"%.6f\">%.2f%%</td>", share, share);
}

/* ---- head ---- */

static void base64(lb_buf *out, const u8 *p, size_t n) {
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        u32 v =
            (u32)p[i] << 16 | (i + 1 < n ? (u32)p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0u);
        for (u32 k = 0; k < 4; k++)
            lb_buf_put_u8(out, i + k > n ? (u8)'=' : (u8)digit[v >> (18 - 6 * k) & 63]);
    }
}

static void source_hash(lb_page *p, const char *text) {
    u8 digest[32];
    lb_sha256 h;
    lb_sha256_init(&h);
    lb_sha256_update(&h, text, strlen(text));
    lb_sha256_digest(&h, digest);
    lb_page_put(p, "'sha256-");
    base64(p->b, digest, sizeof digest);
    lb_page_put(p, "'");
}

/* Nothing but this style and this script: what a name could smuggle in would not run. */
static void put_head(lb_page *p) {
    lb_page_put(
        p, "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\"><head>"
           "<meta charset=\"utf-8\"/>\n"
           "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src ");
    source_hash(p, lb_report_css);
    lb_page_put(p, "; script-src ");
    source_hash(p, lb_report_js);
    lb_page_put(p, "; base-uri 'none'; form-action 'none'\"/>\n"
                   "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
                   "<meta name=\"color-scheme\" content=\"light dark\"/>\n"
                   "<meta name=\"referrer\" content=\"no-referrer\"/>\n"
                   "<meta name=\"generator\" content=\"lbrx " LB_VERSION "\"/>\n<title>");
    for (u32 i = 0; i < p->r->n_models && i < 3; i++) {
        lb_page_put(p, i ? " \xc2\xb7 " : "");
        lb_html_name(p->b, p->r->models[i].source->label);
    }
    lb_page_put(p, p->r->n_models > 3 ? "\xe2\x80\xa6 \xe2\x80\x94 report</title>\n"
                                      : " \xe2\x80\x94 report</title>\n");
    lb_page_put(p, "<style>");
    lb_page_put(p, lb_report_css);
    lb_page_put(p, "</style></head>\n<body>\n<header><h1>");
    for (u32 i = 0; i < p->r->n_models && i < 3; i++) {
        lb_page_put(p, i ? " <span class=\"dim\">and</span> " : "");
        lb_html_name(p->b, p->r->models[i].source->label);
    }
    if (p->r->n_models > 3)
        lb_buf_printf(p->b, " <span class=\"dim\">and %u more</span>", p->r->n_models - 3);
    lb_page_put(
        p, "</h1>\n<nav aria-label=\"Sections\"><ul><li><a href=\"#types\">Types</a></li>"
           "<li><a href=\"#layers\">Bytes by layer</a></li><li><a href=\"#map\">Type map</a></li>");
    if (p->r->n_models > 1)
        lb_page_put(p, "<li><a href=\"#errors\">Errors</a></li>");
    lb_page_put(p,
                "<li><a href=\"#hist\">Histograms</a></li><li><a href=\"#method\">Method</a></li>"
                "</ul></nav></header>\n<main>\n");
}

/* ---- cards ---- */

static void fact(lb_page *p, const char *what, lb_str value) {
    if (value.len == 0)
        return;
    lb_buf_printf(p->b, "<dt>%s</dt><dd>", what);
    lb_html_name(p->b, value);
    lb_page_put(p, "</dd>");
}

static void big(lb_page *p, const char *what, const char *value) {
    lb_buf_printf(p->b, "<div><dt>%s</dt><dd>%s</dd></div>", what, value);
}

/* The recipe that the file says it was made by: GGUF's number, config.json's blocks. */
static void put_recipe(lb_page *p, const lb_report_model *m) {
    const lb_json *config = m->source->gguf ? NULL : m->inspect.config;
    u64 number, bits, group;
    lb_str text;
    if (m->source->gguf &&
        lb_kv_as_u64(lb_meta_find(m->source->gguf, "general.file_type"), &number)) {
        const lb_recipe *found = NULL;
        for (u32 i = 0; i < LB_RECIPE_COUNT && !found; i++) {
            const lb_recipe *x = lb_recipe_get((lb_recipe_id)i);
            if (x->file_type == number && x->cls != LB_RECIPE_COPY_ALL)
                found = x;
        }
        lb_buf_printf(p->b, "<dt>file type</dt><dd>%s (%llu)</dd>", found ? found->name : "unknown",
                      (unsigned long long)number);
    }
    const lb_json *q = lb_json_get(config, "quantization");
    if (lb_json_as_u64(lb_json_get(q, "bits"), &bits) &&
        lb_json_as_u64(lb_json_get(q, "group_size"), &group))
        lb_buf_printf(p->b, "<dt>recipe</dt><dd>MLX, %llu bits, groups of %llu</dd>",
                      (unsigned long long)bits, (unsigned long long)group);
    if (lb_json_as_str(lb_json_path(config, "quantization_config.quant_method"), &text))
        fact(p, "recipe", text);
}

static void put_names(lb_page *p, const lb_report_model *m) {
    lb_str text = LB_STR_NONE;
    if (m->source->gguf)
        (void)lb_kv_as_str(lb_meta_find(m->source->gguf, "general.name"), &text);
    fact(p, "name", text);
    fact(p, "architecture",
         m->inspect.architecture.len ? m->inspect.architecture : LB_STR("unknown"));
    lb_buf_printf(p->b, "<dt>format</dt><dd>%s</dd>", lb_format_name(m->source->format));
    put_recipe(p, m);
    lb_page_put(p, "<dt>files</dt><dd>");
    lb_html_digits(p->b, m->source->n_files);
    lb_page_put(p, "</dd><dt>tensors</dt><dd>");
    lb_html_digits(p->b, m->source->n_tensors);
    if (m->source->n_weights != m->source->n_tensors) {
        lb_page_put(p, ", which hold ");
        lb_html_digits(p->b, m->source->n_weights);
        lb_page_put(p, " weights");
    }
    lb_page_put(p, "</dd>");
}

/* Pairs of provenance: what a file says of its making. */
static u32 put_provenance_json(lb_page *p, const lb_json *object, bool prefixed) {
    u32 n = 0;
    lb_str text;
    for (const lb_json *x = object ? object->first : NULL; x && n < FACTS_MAX; x = x->next) {
        lb_str key = x->key;
        if (prefixed && !lb_str_starts(key, LB_STR("lbrx.")))
            continue;
        if (!prefixed && (lb_str_eq_c(key, "files") || lb_str_eq_c(key, "tensors")))
            continue;
        if (lb_str_eq_c(key, "sources"))
            for (const lb_json *s = x->first; s && n < FACTS_MAX; s = s->next, n++) {
                lb_str name = LB_STR_NONE, digest = LB_STR_NONE;
                (void)lb_json_as_str(lb_json_get(s, "name"), &name);
                (void)lb_json_as_str(lb_json_get(s, "digest"), &digest);
                lb_page_put(p, "<dt>source</dt><dd>");
                lb_html_name(p->b, name);
                lb_page_put(p, " <span class=\"dim\">");
                lb_html_name(p->b, digest);
                lb_page_put(p, "</span></dd>");
            }
        if (!lb_json_as_str(x, &text) && x->type != LB_JNUMBER)
            continue;
        lb_page_put(p, "<dt>");
        lb_html_name(p->b, key);
        lb_page_put(p, "</dt><dd>");
        lb_html_name(p->b, x->text);
        lb_page_put(p, "</dd>");
        n++;
    }
    return n;
}

static lb_status put_provenance(lb_page *p, const lb_report_model *m, lb_err *err) {
    const lb_source *s = m->source;
    const lb_side_file *side = lb_source_side(s, LB_STR("lbrx.json"));
    lb_str text;
    lb_json *root = NULL;
    size_t begin = p->b->len;
    u32 n = 0;
    lb_page_put(p, "<details><summary>Provenance</summary><dl class=\"facts\">");
    for (u64 i = 0; s->gguf && i < s->gguf->n && n < FACTS_MAX; i++) {
        const lb_gguf_kv *kv = &s->gguf->kv[i];
        lb_buf value = {0};
        if (!lb_str_starts(kv->key, LB_STR("lbrx.")))
            continue;
        n++;
        lb_page_put(p, "<dt>");
        lb_html_name(p->b, kv->key);
        lb_page_put(p, "</dt><dd>");
        if (!lb_kv_as_str(kv, &text)) {
            lb_inspect_kv(kv, &value);
            text = lb_buf_str(&value);
        }
        lb_html_name(p->b, text);
        lb_page_put(p, "</dd>");
        lb_buf_deinit(&value);
    }
    if (!s->gguf && s->st_metadata.len && s->format == LB_FORMAT_SAFETENSORS)
        n += put_provenance_json(p, m->inspect.config, true);
    if (side) { /* what is wrong with it, verify tells */
        lb_status st = lb_side_read(side, LBRX_JSON_MAX, &p->scratch, &text, err);
        if (st == LB_OK)
            st = lb_json_parse(text, "lbrx.json", &p->scratch, &root, err);
        if (st == LB_OK)
            n += put_provenance_json(p, root, false);
        lb_arena_deinit(&p->scratch);
        if (st == LB_E_NOMEM)
            return st;
    }
    lb_page_put(p, "</dl></details>");
    if (n == 0)
        p->b->len = begin; /* nothing of it has been handed on yet */
    return lb_buf_status(p->b, err);
}

static void put_error_facts(lb_page *p, const lb_report_model *m) {
    const lb_diff *d = &m->diff;
    lb_page_put(p, "<dl class=\"big\"><div><dt>relative error to A, where it differs</dt><dd>");
    lb_html_percent(p->b, d->differ.rel);
    lb_buf_printf(p->b, "</dd></div><div><dt>cosine</dt><dd>%.6f</dd></div></dl>",
                  d->differ.n_rows ? d->differ.cosine : 1.0);
}

static lb_status put_cards(lb_page *p, lb_err *err) {
    char a[LB_SIZE_TEXT];
    bool pairs = p->r->n_models == 2 || p->r->n_models == 4;
    lb_buf_printf(p->b, "<div class=\"cards%s\">\n", pairs ? " pairs" : "");
    for (u32 i = 0; i < p->r->n_models; i++) {
        const lb_report_model *m = &p->r->models[i];
        lb_page_put(p, "<section class=\"card\"><h2>");
        lb_page_model(p, m);
        lb_page_put(p, "</h2><dl class=\"big\">");
        big(p, "parameters", lb_count_text(m->inspect.n_params, a));
        big(p, "size", lb_size_text(m->inspect.size_bytes, a));
        (void)snprintf(a, sizeof a, "%.3f", lb_inspect_bpw(&m->inspect));
        big(p, "bits a weight", a);
        lb_page_put(p, "</dl>");
        if (m->compared)
            put_error_facts(p, m);
        lb_page_put(p, "<dl class=\"facts\">");
        put_names(p, m);
        lb_page_put(p, "</dl>");
        lb_out_spill(p->out);
        LB_TRY(put_provenance(p, m, err));
        lb_page_put(p, "</section>\n");
        lb_out_spill(p->out);
    }
    lb_page_put(p, "</div>\n");
    return LB_OK;
}

/* ---- types ---- */

static void put_types(lb_page *p) {
    const lb_report *r = p->r;
    lb_page_put(p, "<section><h2 id=\"types\">Types</h2>\n");
    lb_plot_legend(r, 0, r->n_models, p->out);
    lb_page_put(
        p, "<figure><figcaption>Parameters and bytes by type. The numbers in the legend are bits a "
           "weight, scales included.</figcaption>\n");
    lb_page_begin_scroll(p, "Plot: share of each type");
    lb_plot_bars(r, p->out);
    lb_page_put(p, "</div>\n");
    lb_page_begin_scroll(p, "Table: share of each type");
    lb_page_begin_table(
        p, "sort", "Share of each type",
        r->n_models > 1
            ? "model|type|#tensors|#parameters|#share|#bytes|#share of bytes|#bits a weight"
            : "type|#tensors|#parameters|#share|#bytes|#share of bytes|#bits a weight");
    for (u32 i = 0; i < r->n_models; i++)
        for (u32 t = 0; t < r->n_types; t++) {
            const lb_report_sum *s = &r->models[i].sum[t];
            if (s->n_weights == 0)
                continue;
            lb_page_put(p, "<tr>");
            if (r->n_models > 1)
                lb_buf_printf(p->b, "<td>%s</td>", r->models[i].letter);
            lb_buf_printf(p->b, "<td>%s</td>", r->types[t].label);
            lb_page_cell_digits(p, s->n_weights);
            lb_page_cell_digits(p, s->n_params);
            cell_share(p, s->n_params, r->models[i].inspect.n_params);
            cell_size(p, s->size_bytes);
            cell_share(p, s->size_bytes, r->models[i].inspect.size_bytes);
            lb_buf_printf(p->b, "<td class=\"n\">%.4g</td></tr>\n",
                          s->n_params ? (double)s->size_bytes * 8 / (double)s->n_params : 0.0);
        }
    lb_page_end_table(p);
    lb_page_put(p, "</div></figure></section>\n");
}

/* ---- layers ---- */

static u64 slot_sum(const lb_report *r, const lb_report_model *m, u32 slot) {
    u64 n = 0;
    for (u32 t = 0; t < r->n_types; t++)
        n += m->slot_bytes[(u64)slot * r->n_types + t];
    return n;
}

static void layer_table(lb_page *p, const lb_report_model *m) {
    const lb_report *r = p->r;
    lb_buf heads = {0};
    lb_buf_put_c(&heads, "layer");
    for (u32 t = 0; t < r->n_types; t++)
        if (m->sum[t].n_weights)
            lb_buf_printf(&heads, "|#%s", r->types[t].label);
    lb_buf_put(&heads, "|#all", 6); /* with its NUL */
    if (heads.oom)
        p->b->oom = true;
    else
        lb_page_begin_table(p, "sort", "Bytes by layer", (const char *)heads.ptr);
    lb_buf_deinit(&heads);
    for (u32 s = 0; s < m->axis.n_slots; s++) {
        lb_buf_printf(p->b, "<tr><td data-v=\"%u\">", s);
        lb_report_slot_text(&m->axis, s, p->b);
        lb_page_put(p, "</td>");
        for (u32 t = 0; t < r->n_types; t++)
            if (m->sum[t].n_weights)
                lb_page_cell_digits(p, m->slot_bytes[(u64)s * r->n_types + t]);
        lb_page_cell_digits(p, slot_sum(r, m, s));
        lb_page_put(p, "</tr>\n");
        lb_out_spill(p->out);
    }
    lb_page_end_table(p);
}

static void figure_head(lb_page *p, const lb_report_model *m, const char *text) {
    lb_page_put(p, "<figure><figcaption><b>");
    lb_page_model(p, m);
    lb_buf_printf(p->b, "</b> %s</figcaption>\n", text);
}

static void put_layers(lb_page *p) {
    const lb_report *r = p->r;
    u64 most = 0, outside = 0;
    for (u32 i = 0; i < r->n_models; i++)
        for (u32 s = 0; s < r->models[i].axis.n_slots; s++) {
            u64 *to = s ? &most : &outside;
            *to = LB_MAX(*to, slot_sum(r, &r->models[i], s));
        }
    lb_page_put(p, "<section><h2 id=\"layers\">Bytes by layer</h2>\n");
    lb_plot_legend(r, 0, r->n_models, p->out);
    for (u32 i = 0; i < r->n_models; i++) {
        figure_head(p, &r->models[i], r->n_models > 1 ? "All models on one scale." : "");
        lb_page_begin_scroll(p, "Plot: bytes by layer");
        lb_plot_layers(r, i, most ? most : outside, p->out);
        lb_page_put(p, "</div>\n");
        lb_page_merged(p, &r->models[i].axis);
        lb_page_begin_details(p, "Table of bytes by layer");
        layer_table(p, &r->models[i]);
        lb_page_end_details(p);
        lb_page_put(p, "</figure>\n");
    }
    lb_page_put(p, "</section>\n");
}

/* ---- the type map ---- */

/* The slots in which a role is mostly of a type, as stretches: "0-3, 7". */
static void put_runs(lb_page *p, const lb_report_model *m, u32 role, u32 type) {
    const lb_report_axis *a = &m->axis;
    const lb_report_cell *row = &m->cells[(u64)role * a->n_slots];
    u32 n = 0;
    for (u32 s = 0; s < a->n_slots; s++) {
        if (row[s].n_weights == 0 || row[s].type != type)
            continue;
        u32 end = s;
        while (s && end + 1 < a->n_slots && row[end + 1].n_weights && row[end + 1].type == type &&
               a->slots[end + 1].group == a->slots[s].group)
            end++;
        lb_page_put(p, n ? ", " : "");
        if (n++ == RUNS_MAX) {
            lb_page_put(p, "\xe2\x80\xa6");
            return;
        }
        if (s == 0) {
            lb_page_put(p, "outside the layers");
            continue;
        }
        if (a->n_groups > 1) {
            lb_html_name(p->b, a->groups[a->slots[s].group].prefix);
            lb_page_put(p, " ");
        }
        lb_buf_printf(p->b, "%llu", (unsigned long long)a->slots[s].first);
        if (a->slots[end].last != a->slots[s].first)
            lb_buf_printf(p->b, "\xe2\x80\x93%llu", (unsigned long long)a->slots[end].last);
        s = end;
    }
}

static void map_table(lb_page *p, const lb_report_model *m) {
    const lb_report *r = p->r;
    const lb_report_axis *a = &m->axis;
    lb_page_begin_table(p, "sort", "Types by role; a cell of several types counts as its main one",
                        "role|type|layers|#tensors|#parameters|#bits a weight");
    for (u32 i = 0; i < a->n_roles; i++)
        for (u32 t = 0; t < r->n_types; t++) {
            lb_report_sum sum = {0};
            for (u32 s = 0; s < a->n_slots; s++) {
                const lb_report_cell *c = &m->cells[(u64)i * a->n_slots + s];
                if (c->n_weights == 0 || c->type != t)
                    continue;
                sum.n_weights += c->n_weights;
                sum.n_params += c->n_params;
                sum.size_bytes += c->size_bytes;
            }
            if (sum.n_weights == 0)
                continue;
            lb_page_put(p, "<tr><td class=\"name\">");
            lb_html_name(p->b, a->roles[i]);
            lb_buf_printf(p->b, "</td><td>%s</td><td>", r->types[t].label);
            put_runs(p, m, i, t);
            lb_page_put(p, "</td>");
            lb_page_cell_digits(p, sum.n_weights);
            lb_page_cell_digits(p, sum.n_params);
            lb_buf_printf(p->b, "<td class=\"n\">%.4g</td></tr>\n",
                          sum.n_params ? (double)sum.size_bytes * 8 / (double)sum.n_params : 0.0);
            lb_out_spill(p->out);
        }
    lb_page_end_table(p);
}

static void put_map(lb_page *p) {
    const lb_report *r = p->r;
    lb_page_put(p, "<section><h2 id=\"map\">Type map</h2>\n");
    lb_plot_legend(r, 0, r->n_models, p->out);
    for (u32 i = 0; i < r->n_models; i++) {
        figure_head(p, &r->models[i],
                    "A row for each role, a column for each layer; figures are bits a weight. "
                    "Dashed: several types.");
        lb_page_begin_scroll(p, "Plot: type map");
        lb_plot_types(r, i, p->out);
        lb_page_put(p, "</div>\n");
        lb_page_merged(p, &r->models[i].axis);
        lb_page_begin_details(p, "Table of the type map");
        map_table(p, &r->models[i]);
        lb_page_end_details(p);
        lb_page_put(p, "</figure>\n");
    }
    lb_page_put(p, "</section>\n");
}

/* ---- the end ---- */

static void put_method(lb_page *p) {
    const lb_report *r = p->r;
    lb_page_put(
        p,
        "<section><h2 id=\"method\">Method</h2>\n"
        "<p>Parameters are values: packed codes count as what they stand for. Bytes are those of "
        "the stored tensors, scales and zero points included; bits a weight are 8 bytes / "
        "parameters. Layers and roles come from the names of tensors: the first number between "
        "dots is the layer, further numbers (experts) are written as *.</p>\n");
    for (u32 i = 0; i < r->n_models; i++)
        if (i == 0 || r->models[i].n_sample != r->models[0].n_sample) {
            lb_buf_printf(p->b, "<p>Histograms%s%s look at up to ",
                          r->n_models > 1 && r->models[i].n_sample != r->models[0].n_sample ? " of "
                                                                                            : "",
                          r->n_models > 1 && r->models[i].n_sample != r->models[0].n_sample
                              ? r->models[i].letter
                              : "");
            lb_html_digits(p->b, r->models[i].n_sample);
            lb_page_put(
                p,
                " values of each tensor: stretches of 65,536 neighbours whose places are equally "
                "spaced, the first at the start of the tensor and the last at its end. The choice "
                "depends on shapes alone. Scales that stand in tensors of their own are sampled "
                "in the same way. A scale is what a code is multiplied with: of types with "
                "sub-blocks, the product of both.</p>\n");
        }
    lb_page_put(
        p, "<p>Codes are counted from the one that stands for zero, if there is one; 8-bit floats "
           "in order of their value. Where codebooks have more than 64 points, neighbours share a "
           "bar.");
    if (r->n_models > 1)
        lb_page_put(
            p,
            " Errors are computed over all values, not over samples; norms that the other format "
            "stores in another way are undone before.");
    lb_page_put(p, "</p></section>\n</main>\n<footer>Made by lbrx " LB_VERSION
                   ". The same models give the same page, byte for byte.</footer>\n<script>");
    lb_page_put(p, lb_report_js);
    lb_page_put(p, "</script></body></html>\n");
}

lb_status lb_report_page(const lb_report *r, lb_out *out, lb_err *err) {
    lb_page p = {.r = r, .out = out, .b = &out->buf};
    put_head(&p);
    lb_out_spill(out);
    LB_TRY(put_cards(&p, err));
    put_types(&p);
    put_layers(&p);
    put_map(&p);
    lb_page_errors(&p);
    lb_page_hists(&p);
    put_method(&p);
    return lb_buf_status(p.b, err);
}
