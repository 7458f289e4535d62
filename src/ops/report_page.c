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

#define WORST 20        /* tensors that are listed at once */
#define ERRORS_MAX 1000 /* and when asked for */
#define RUNS_MAX 24     /* stretches of layers in one cell */
#define FACTS_MAX 64    /* provenance */
#define LBRX_JSON_MAX ((u64)256 << 20)

typedef struct page {
    const lb_report *r;
    lb_out *out;
    lb_buf *b;
    lb_arena scratch;
} page;

/* ---- small pieces ---- */

static void put(page *p, const char *s) {
    lb_buf_put_c(p->b, s);
}

static void cell_digits(page *p, u64 n) {
    lb_buf_printf(p->b, "<td class=\"n\" data-v=\"%llu\">", (unsigned long long)n);
    lb_html_digits(p->b, n);
    put(p, "</td>");
}

static void cell_size(page *p, u64 n) {
    char size[LB_SIZE_TEXT];
    lb_buf_printf(p->b, "<td class=\"n\" data-v=\"%llu\">%s</td>", (unsigned long long)n,
                  lb_size_text(n, size));
}

static void cell_share(page *p, u64 n, u64 all) {
    double share = all ? (double)n / (double)all * 100 : 0;
    lb_buf_printf(p->b, "<td class=\"n\" data-v=\"%.6f\">%.2f%%</td>", share, share);
}

static void cell_percent(page *p, double x) {
    lb_buf_put_c(p->b, "<td class=\"n\" data-v=\"");
    lb_buf_printf(p->b, isfinite(x) ? "%.9g\">" : "1e999\">", x);
    lb_html_percent(p->b, x);
    put(p, "</td>");
}

static void cell_error(page *p, double x) {
    lb_buf_put_c(p->b, "<td class=\"n\" data-v=\"");
    lb_buf_printf(p->b, isfinite(x) ? "%.9g\">" : "1e999\">", x);
    lb_html_error(p->b, x);
    put(p, "</td>");
}

/* heads: separated by '|'; those of numbers begin with '#'. */
static void begin_table(page *p, const char *class, const char *caption, const char *heads) {
    lb_buf_printf(p->b, "<table class=\"%s\"><caption>%s</caption><thead><tr>", class, caption);
    while (*heads) {
        size_t n = strcspn(heads, "|");
        bool number = heads[0] == '#';
        lb_buf_printf(p->b, "<th scope=\"col\"%s>%.*s</th>", number ? " class=\"n\"" : "",
                      (int)(n - number), heads + number);
        heads += n + (heads[n] == '|');
    }
    put(p, "</tr></thead><tbody>\n");
}

static void end_table(page *p) {
    put(p, "</tbody></table>\n");
    lb_out_spill(p->out);
}

/* A box that scrolls by itself, with the keyboard too. */
static void begin_scroll(page *p, const char *label) {
    lb_buf_printf(p->b, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"%s\">\n",
                  label);
}

static void begin_details(page *p, const char *summary) {
    lb_buf_printf(p->b, "<details><summary>%s</summary>\n", summary);
    begin_scroll(p, summary);
}

static void end_details(page *p) {
    put(p, "</div></details>\n");
}

static void model_name(page *p, const lb_report_model *m) {
    if (p->r->n_models > 1)
        lb_buf_printf(p->b, "<span class=\"tag\">%s</span>", m->letter);
    lb_html_name(p->b, m->source->label);
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

static void source_hash(page *p, const char *text) {
    u8 digest[32];
    lb_sha256 h;
    lb_sha256_init(&h);
    lb_sha256_update(&h, text, strlen(text));
    lb_sha256_digest(&h, digest);
    put(p, "'sha256-");
    base64(p->b, digest, sizeof digest);
    put(p, "'");
}

/* Nothing but this style and this script: what a name could smuggle in would not run. */
static void put_head(page *p) {
    put(p, "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\"><head>"
           "<meta charset=\"utf-8\"/>\n"
           "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src ");
    source_hash(p, lb_report_css);
    put(p, "; script-src ");
    source_hash(p, lb_report_js);
    put(p, "; base-uri 'none'; form-action 'none'\"/>\n"
           "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
           "<meta name=\"color-scheme\" content=\"light dark\"/>\n"
           "<meta name=\"referrer\" content=\"no-referrer\"/>\n"
           "<meta name=\"generator\" content=\"lbrx " LB_VERSION "\"/>\n<title>");
    for (u32 i = 0; i < p->r->n_models && i < 3; i++) {
        put(p, i ? " \xc2\xb7 " : "");
        lb_html_name(p->b, p->r->models[i].source->label);
    }
    put(p, p->r->n_models > 3 ? "\xe2\x80\xa6 \xe2\x80\x94 report</title>\n"
                              : " \xe2\x80\x94 report</title>\n");
    put(p, "<style>");
    put(p, lb_report_css);
    put(p, "</style></head>\n<body>\n<header><h1>");
    for (u32 i = 0; i < p->r->n_models && i < 3; i++) {
        put(p, i ? " <span class=\"dim\">and</span> " : "");
        lb_html_name(p->b, p->r->models[i].source->label);
    }
    if (p->r->n_models > 3)
        lb_buf_printf(p->b, " <span class=\"dim\">and %u more</span>", p->r->n_models - 3);
    put(p, "</h1>\n<nav aria-label=\"Sections\"><ul><li><a href=\"#types\">Types</a></li>"
           "<li><a href=\"#layers\">Bytes by layer</a></li><li><a href=\"#map\">Type map</a></li>");
    if (p->r->n_models > 1)
        put(p, "<li><a href=\"#errors\">Errors</a></li>");
    put(p, "<li><a href=\"#hist\">Histograms</a></li><li><a href=\"#method\">Method</a></li>"
           "</ul></nav></header>\n<main>\n");
}

/* ---- cards ---- */

static void fact(page *p, const char *what, lb_str value) {
    if (value.len == 0)
        return;
    lb_buf_printf(p->b, "<dt>%s</dt><dd>", what);
    lb_html_name(p->b, value);
    put(p, "</dd>");
}

static void big(page *p, const char *what, const char *value) {
    lb_buf_printf(p->b, "<div><dt>%s</dt><dd>%s</dd></div>", what, value);
}

/* The recipe that the file says it was made by: GGUF's number, config.json's blocks. */
static void put_recipe(page *p, const lb_report_model *m) {
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

static void put_names(page *p, const lb_report_model *m) {
    lb_str text = LB_STR_NONE;
    if (m->source->gguf)
        (void)lb_kv_as_str(lb_meta_find(m->source->gguf, "general.name"), &text);
    fact(p, "name", text);
    fact(p, "architecture",
         m->inspect.architecture.len ? m->inspect.architecture : LB_STR("unknown"));
    lb_buf_printf(p->b, "<dt>format</dt><dd>%s</dd>", lb_format_name(m->source->format));
    put_recipe(p, m);
    put(p, "<dt>files</dt><dd>");
    lb_html_digits(p->b, m->source->n_files);
    put(p, "</dd><dt>tensors</dt><dd>");
    lb_html_digits(p->b, m->source->n_tensors);
    if (m->source->n_weights != m->source->n_tensors) {
        put(p, ", which hold ");
        lb_html_digits(p->b, m->source->n_weights);
        put(p, " weights");
    }
    put(p, "</dd>");
}

/* Pairs of provenance: what a file says of its making. */
static u32 put_provenance_json(page *p, const lb_json *object, bool prefixed) {
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
                put(p, "<dt>source</dt><dd>");
                lb_html_name(p->b, name);
                put(p, " <span class=\"dim\">");
                lb_html_name(p->b, digest);
                put(p, "</span></dd>");
            }
        if (!lb_json_as_str(x, &text) && x->type != LB_JNUMBER)
            continue;
        put(p, "<dt>");
        lb_html_name(p->b, key);
        put(p, "</dt><dd>");
        lb_html_name(p->b, x->text);
        put(p, "</dd>");
        n++;
    }
    return n;
}

static lb_status put_provenance(page *p, const lb_report_model *m, lb_err *err) {
    const lb_source *s = m->source;
    const lb_side_file *side = lb_source_side(s, LB_STR("lbrx.json"));
    lb_str text;
    lb_json *root = NULL;
    size_t begin = p->b->len;
    u32 n = 0;
    put(p, "<details><summary>Provenance</summary><dl class=\"facts\">");
    for (u64 i = 0; s->gguf && i < s->gguf->n && n < FACTS_MAX; i++) {
        const lb_gguf_kv *kv = &s->gguf->kv[i];
        lb_buf value = {0};
        if (!lb_str_starts(kv->key, LB_STR("lbrx.")))
            continue;
        n++;
        put(p, "<dt>");
        lb_html_name(p->b, kv->key);
        put(p, "</dt><dd>");
        if (!lb_kv_as_str(kv, &text)) {
            lb_inspect_kv(kv, &value);
            text = lb_buf_str(&value);
        }
        lb_html_name(p->b, text);
        put(p, "</dd>");
        lb_buf_deinit(&value);
    }
    if (!s->gguf && s->st_metadata.len && s->format == LB_FORMAT_SAFETENSORS)
        n += put_provenance_json(p, m->inspect.config, true);
    if (side) { /* what is wrong with it, verify tells */
        lb_status st = lb_os_read_file(side->path, LBRX_JSON_MAX, &p->scratch, &text, err);
        if (st == LB_OK)
            st = lb_json_parse(text, "lbrx.json", &p->scratch, &root, err);
        if (st == LB_OK)
            n += put_provenance_json(p, root, false);
        lb_arena_deinit(&p->scratch);
        if (st == LB_E_NOMEM)
            return st;
    }
    put(p, "</dl></details>");
    if (n == 0)
        p->b->len = begin; /* nothing of it has been handed on yet */
    return lb_buf_status(p->b, err);
}

static void put_error_facts(page *p, const lb_report_model *m) {
    const lb_diff *d = &m->diff;
    put(p, "<dl class=\"big\"><div><dt>relative error to A</dt><dd>");
    lb_html_percent(p->b, d->total.rel);
    lb_buf_printf(p->b, "</dd></div><div><dt>cosine</dt><dd>%.6f</dd></div></dl>", d->total.cosine);
}

static lb_status put_cards(page *p, lb_err *err) {
    char a[LB_SIZE_TEXT];
    bool pairs = p->r->n_models == 2 || p->r->n_models == 4;
    lb_buf_printf(p->b, "<div class=\"cards%s\">\n", pairs ? " pairs" : "");
    for (u32 i = 0; i < p->r->n_models; i++) {
        const lb_report_model *m = &p->r->models[i];
        put(p, "<section class=\"card\"><h2>");
        model_name(p, m);
        put(p, "</h2><dl class=\"big\">");
        big(p, "parameters", lb_count_text(m->inspect.n_params, a));
        big(p, "size", lb_size_text(m->inspect.size_bytes, a));
        (void)snprintf(a, sizeof a, "%.3f", lb_inspect_bpw(&m->inspect));
        big(p, "bits a weight", a);
        put(p, "</dl>");
        if (m->compared)
            put_error_facts(p, m);
        put(p, "<dl class=\"facts\">");
        put_names(p, m);
        put(p, "</dl>");
        lb_out_spill(p->out);
        LB_TRY(put_provenance(p, m, err));
        put(p, "</section>\n");
        lb_out_spill(p->out);
    }
    put(p, "</div>\n");
    return LB_OK;
}

/* ---- types ---- */

static void put_types(page *p) {
    const lb_report *r = p->r;
    put(p, "<section><h2 id=\"types\">Types</h2>\n");
    lb_plot_legend(r, 0, r->n_models, p->out);
    put(p, "<figure><figcaption>Parameters and bytes by type. The numbers in the legend are bits a "
           "weight, scales included.</figcaption>\n");
    begin_scroll(p, "Plot: share of each type");
    lb_plot_bars(r, p->out);
    put(p, "</div>\n");
    begin_scroll(p, "Table: share of each type");
    begin_table(p, "sort", "Share of each type",
                r->n_models > 1
                    ? "model|type|#tensors|#parameters|#share|#bytes|#share of bytes|#bits a weight"
                    : "type|#tensors|#parameters|#share|#bytes|#share of bytes|#bits a weight");
    for (u32 i = 0; i < r->n_models; i++)
        for (u32 t = 0; t < r->n_types; t++) {
            const lb_report_sum *s = &r->models[i].sum[t];
            if (s->n_weights == 0)
                continue;
            put(p, "<tr>");
            if (r->n_models > 1)
                lb_buf_printf(p->b, "<td>%s</td>", r->models[i].letter);
            lb_buf_printf(p->b, "<td>%s</td>", r->types[t].label);
            cell_digits(p, s->n_weights);
            cell_digits(p, s->n_params);
            cell_share(p, s->n_params, r->models[i].inspect.n_params);
            cell_size(p, s->size_bytes);
            cell_share(p, s->size_bytes, r->models[i].inspect.size_bytes);
            lb_buf_printf(p->b, "<td class=\"n\">%.4g</td></tr>\n",
                          s->n_params ? (double)s->size_bytes * 8 / (double)s->n_params : 0.0);
        }
    end_table(p);
    put(p, "</div></figure></section>\n");
}

/* ---- layers ---- */

static void merged_note(page *p, const lb_report_axis *a) {
    if (a->n_groups && a->groups[0].per_slot > 1)
        lb_buf_printf(p->b, "<p class=\"note\">Of the many layers, %llu share a column.</p>\n",
                      (unsigned long long)a->groups[0].per_slot);
    if (a->n_groups_merged) {
        put(p, "<p class=\"note\">Numbered parts of the model under ");
        lb_html_digits(p->b, a->n_groups_merged);
        put(p, " smaller names count as outside the layers.</p>\n");
    }
    if (a->n_roles_merged) {
        put(p, "<p class=\"note\">The ");
        lb_html_digits(p->b, a->n_roles_merged);
        put(p, " smallest roles share the last row.</p>\n");
    }
}

static u64 slot_sum(const lb_report *r, const lb_report_model *m, u32 slot) {
    u64 n = 0;
    for (u32 t = 0; t < r->n_types; t++)
        n += m->slot_bytes[(u64)slot * r->n_types + t];
    return n;
}

static void layer_table(page *p, const lb_report_model *m) {
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
        begin_table(p, "sort", "Bytes by layer", (const char *)heads.ptr);
    lb_buf_deinit(&heads);
    for (u32 s = 0; s < m->axis.n_slots; s++) {
        lb_buf_printf(p->b, "<tr><td data-v=\"%u\">", s);
        lb_report_slot_text(&m->axis, s, p->b);
        put(p, "</td>");
        for (u32 t = 0; t < r->n_types; t++)
            if (m->sum[t].n_weights)
                cell_digits(p, m->slot_bytes[(u64)s * r->n_types + t]);
        cell_digits(p, slot_sum(r, m, s));
        put(p, "</tr>\n");
        lb_out_spill(p->out);
    }
    end_table(p);
}

static void figure_head(page *p, const lb_report_model *m, const char *text) {
    put(p, "<figure><figcaption><b>");
    model_name(p, m);
    lb_buf_printf(p->b, "</b> %s</figcaption>\n", text);
}

static void put_layers(page *p) {
    const lb_report *r = p->r;
    u64 most = 0, outside = 0;
    for (u32 i = 0; i < r->n_models; i++)
        for (u32 s = 0; s < r->models[i].axis.n_slots; s++) {
            u64 *to = s ? &most : &outside;
            *to = LB_MAX(*to, slot_sum(r, &r->models[i], s));
        }
    put(p, "<section><h2 id=\"layers\">Bytes by layer</h2>\n");
    lb_plot_legend(r, 0, r->n_models, p->out);
    for (u32 i = 0; i < r->n_models; i++) {
        figure_head(p, &r->models[i], r->n_models > 1 ? "All models on one scale." : "");
        begin_scroll(p, "Plot: bytes by layer");
        lb_plot_layers(r, i, most ? most : outside, p->out);
        put(p, "</div>\n");
        merged_note(p, &r->models[i].axis);
        begin_details(p, "Table of bytes by layer");
        layer_table(p, &r->models[i]);
        end_details(p);
        put(p, "</figure>\n");
    }
    put(p, "</section>\n");
}

/* ---- the type map ---- */

/* The slots in which a role is mostly of a type, as stretches: "0-3, 7". */
static void put_runs(page *p, const lb_report_model *m, u32 role, u32 type) {
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
        put(p, n ? ", " : "");
        if (n++ == RUNS_MAX) {
            put(p, "\xe2\x80\xa6");
            return;
        }
        if (s == 0) {
            put(p, "outside the layers");
            continue;
        }
        if (a->n_groups > 1) {
            lb_html_name(p->b, a->groups[a->slots[s].group].prefix);
            put(p, " ");
        }
        lb_buf_printf(p->b, "%llu", (unsigned long long)a->slots[s].first);
        if (a->slots[end].last != a->slots[s].first)
            lb_buf_printf(p->b, "\xe2\x80\x93%llu", (unsigned long long)a->slots[end].last);
        s = end;
    }
}

static void map_table(page *p, const lb_report_model *m) {
    const lb_report *r = p->r;
    const lb_report_axis *a = &m->axis;
    begin_table(p, "sort", "Types by role; a cell of several types counts as its main one",
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
            put(p, "<tr><td class=\"name\">");
            lb_html_name(p->b, a->roles[i]);
            lb_buf_printf(p->b, "</td><td>%s</td><td>", r->types[t].label);
            put_runs(p, m, i, t);
            put(p, "</td>");
            cell_digits(p, sum.n_weights);
            cell_digits(p, sum.n_params);
            lb_buf_printf(p->b, "<td class=\"n\">%.4g</td></tr>\n",
                          sum.n_params ? (double)sum.size_bytes * 8 / (double)sum.n_params : 0.0);
            lb_out_spill(p->out);
        }
    end_table(p);
}

static void put_map(page *p) {
    const lb_report *r = p->r;
    put(p, "<section><h2 id=\"map\">Type map</h2>\n");
    lb_plot_legend(r, 0, r->n_models, p->out);
    for (u32 i = 0; i < r->n_models; i++) {
        figure_head(p, &r->models[i],
                    "A row for each role, a column for each layer; figures are bits a weight. "
                    "Dashed: several types.");
        begin_scroll(p, "Plot: type map");
        lb_plot_types(r, i, p->out);
        put(p, "</div>\n");
        merged_note(p, &r->models[i].axis);
        begin_details(p, "Table of the type map");
        map_table(p, &r->models[i]);
        end_details(p);
        put(p, "</figure>\n");
    }
    put(p, "</section>\n");
}

/* ---- errors ---- */

static void error_rows(page *p, const lb_report_model *m, u64 first, u64 n) {
    const lb_report *r = p->r;
    for (u64 i = first; i < first + n; i++) {
        u64 row = m->pair.worst[i];
        const lb_diff_row *d = &m->diff.rows[row];
        put(p, "<tr><td class=\"name\">");
        lb_html_name(p->b, d->name);
        lb_buf_printf(p->b, "</td><td>%s</td>", r->types[m->pair.types[row]].label);
        cell_digits(p, d->n_values);
        cell_percent(p, d->rel);
        lb_buf_printf(p->b, "<td class=\"n\" data-v=\"%.17g\">%.8f</td>", d->cosine, d->cosine);
        cell_error(p, d->rmse);
        cell_error(p, d->max_abs);
        put(p, "</tr>\n");
        lb_out_spill(p->out);
    }
}

#define ERROR_HEADS "tensor|type|#values|#relative error|#cosine|#rmse|#max abs"

static void error_tables(page *p, const lb_report_model *m) {
    u64 n = LB_MIN(m->pair.n_worst, WORST), rest = LB_MIN(m->pair.n_worst, ERRORS_MAX) - n;
    begin_scroll(p, "Table: tensors with the largest relative error");
    begin_table(p, "sort", "Tensors with the largest relative error", ERROR_HEADS);
    error_rows(p, m, 0, n);
    end_table(p);
    put(p, "</div>\n");
    if (rest == 0)
        return;
    begin_details(p, m->pair.n_worst > ERRORS_MAX ? "The following tensors" : "All other tensors");
    begin_table(p, "sort", "Other tensors by relative error", ERROR_HEADS);
    error_rows(p, m, n, rest);
    end_table(p);
    end_details(p);
    if (m->pair.n_worst > ERRORS_MAX) {
        put(p, "<p class=\"note\">");
        lb_html_digits(p->b, m->pair.n_worst - ERRORS_MAX);
        put(p, " tensors with smaller errors are not listed here; lbrx diff prints all, and lbrx "
               "report --json has them.</p>\n");
    }
}

static void error_sums(page *p, const lb_report_model *m) {
    const lb_diff *d = &m->diff;
    u64 other = d->n_rows - d->total.n_rows;
    put(p, "<p>All values together: relative error <b>");
    lb_html_percent(p->b, d->total.rel);
    lb_buf_printf(p->b, "</b>, cosine <b>%.8f</b>, rmse ", d->total.cosine);
    lb_html_error(p->b, d->total.rmse);
    put(p, ", largest difference ");
    lb_html_error(p->b, d->total.max_abs);
    put(p, "; ");
    lb_html_digits(p->b, d->total.n_rows);
    put(p, " tensors, ");
    lb_html_digits(p->b, d->n_different);
    put(p, " of them different.");
    if (other || d->n_only_in_a || d->n_only_in_b) {
        put(p, " Not compared: ");
        lb_html_digits(p->b, other);
        put(p, " of another shape, ");
        lb_html_digits(p->b, d->n_only_in_a);
        put(p, " only in A, ");
        lb_html_digits(p->b, d->n_only_in_b);
        lb_buf_printf(p->b, " only in %s.", m->letter);
    }
    put(p, "</p>\n");
}

static void put_errors(page *p) {
    const lb_report *r = p->r;
    if (r->n_models < 2)
        return;
    put(p, "<section><h2 id=\"errors\">Errors</h2>\n<p>Against <b>");
    model_name(p, &r->models[0]);
    put(p, "</b>, tensor by tensor and by value: relative error = |a \xe2\x88\x92 b| / |a| "
           "(Frobenius norms), as lbrx diff has it.</p>\n");
    for (u32 i = 1; i < r->n_models; i++) {
        const lb_report_model *m = &r->models[i];
        put(p, "<h3>");
        model_name(p, m);
        put(p, "</h3>\n");
        if (!m->compared) {
            put(p, "<p>Not compared: ");
            lb_html_text(p->b, m->why_not);
            put(p, ".</p>\n");
            continue;
        }
        error_sums(p, m);
        lb_plot_legend(r, i, 1, p->out);
        put(p, "<figure><figcaption>A point for each tensor, coloured by its type; the line is the "
               "error of each layer as a whole.</figcaption>\n");
        begin_scroll(p, "Plot: error by tensor");
        lb_plot_errors(r, i, p->out);
        put(p, "</div>\n");
        if (m->pair.n_worst > 4000)
            put(p, "<p class=\"note\">Of the many tensors, the worst of each role and column is "
                   "drawn.</p>\n");
        merged_note(p, &m->pair.axis);
        error_tables(p, m);
        put(p, "</figure>\n<figure><figcaption>Relative error in per cent, a row for each role, a "
               "column for each layer.</figcaption>\n");
        begin_scroll(p, "Plot: error map");
        lb_plot_error_map(r, i, p->out);
        put(p, "</div>\n");
        lb_plot_error_legend(p->out);
        put(p, "</figure>\n");
    }
    put(p, "</section>\n");
}

/* ---- histograms ---- */

static u64 sum_of(const lb_report_logs *l) {
    u64 n = l->n_zero + l->n_bad;
    for (u32 i = 0; i < LB_REPORT_LOG_BINS; i++)
        n += l->n[i];
    return n;
}

static void codes_rows(page *p, const lb_report_model *m, u32 type) {
    const lb_report_hist *h = m->hist[type];
    u32 per = (h->n_codes + 63) / 64;
    for (u32 i = 0; i < h->n_codes; i += per) {
        u64 n = 0;
        u32 end = LB_MIN(i + per, h->n_codes);
        for (u32 k = i; k < end; k++)
            n += h->codes[k];
        lb_buf_printf(p->b, "<tr><td>%s</td><td>%s</td><td>codes</td><td class=\"n\">%d", m->letter,
                      p->r->types[type].label, (i32)i - h->zero);
        if (per > 1)
            lb_buf_printf(p->b, " to %d", (i32)end - 1 - h->zero);
        put(p, "</td>");
        cell_digits(p, n);
        put(p, "</tr>\n");
        lb_out_spill(p->out);
    }
}

static void logs_rows(page *p, const lb_report_model *m, u32 type, const lb_report_logs *l,
                      const char *what) {
    for (u32 i = 0; i < LB_REPORT_LOG_BINS + 2; i++) {
        u64 n = i == 0 ? l->n_zero : i == 1 ? l->n_bad : l->n[i - 2];
        if (n == 0)
            continue;
        lb_buf_printf(p->b, "<tr><td>%s</td><td>%s</td><td>%s</td>", m->letter,
                      p->r->types[type].label, what);
        if (i < 2)
            lb_buf_printf(p->b, "<td class=\"n\">%s</td>", i ? "NaN or infinite" : "0");
        else
            lb_buf_printf(p->b, "<td class=\"n\">2^%g and more</td>", (double)(i - 2) / 2 - 149);
        cell_digits(p, n);
        put(p, "</tr>\n");
        lb_out_spill(p->out);
    }
}

static void hist_table(page *p, const lb_report_model *m) {
    begin_table(p, "sort", "Counts behind the histograms", "model|type|of|#from|#count");
    for (u32 t = 0; t < p->r->n_types; t++) {
        const lb_report_hist *h = m->hist[t];
        if (!h || h->n_sampled == 0)
            continue;
        if (h->n_codes) {
            codes_rows(p, m, t);
            logs_rows(p, m, t, &h->scales, "scales");
        } else {
            logs_rows(p, m, t, &h->plus, "values above 0");
            logs_rows(p, m, t, &h->minus, "values below 0");
        }
    }
    end_table(p);
}

static void sampled(page *p, const lb_report_hist *h) {
    char a[LB_SIZE_TEXT], b[LB_SIZE_TEXT];
    lb_buf_printf(p->b, "%s of %s values", lb_count_text(h->n_sampled, a),
                  lb_count_text(h->n_all, b));
}

static void codes_figure(page *p, u32 model, u32 type) {
    const lb_report_hist *h = p->r->models[model].hist[type];
    u32 used = 0;
    for (u32 i = 0; i < h->n_codes; i++)
        used += h->codes[i] != 0;
    lb_buf_printf(p->b,
                  "<figure><figcaption><b>%s</b> %s: %u of %u used, %.2f bits of information "
                  "each; ",
                  p->r->types[type].label, h->points ? "points of the codebook" : "codes", used,
                  h->n_codes, lb_report_entropy(p->r, h));
    sampled(p, h);
    put(p, "</figcaption>");
    lb_plot_codes(p->r, model, type, p->out);
    put(p, "</figure>\n");
}

static void logs_figure(page *p, u32 model, u32 type, bool scales) {
    const lb_report_hist *h = p->r->models[model].hist[type];
    u64 zero = scales ? h->scales.n_zero : h->plus.n_zero + h->minus.n_zero;
    u64 bad = scales ? h->scales.n_bad : h->plus.n_bad + h->minus.n_bad;
    lb_buf_printf(p->b, "<figure><figcaption><b>%s</b> %s: ", p->r->types[type].label,
                  scales ? "|scales|" : "values, by magnitude");
    if (scales) {
        lb_html_digits(p->b, sum_of(&h->scales));
        put(p, " of them");
    } else {
        sampled(p, h);
    }
    if (zero) {
        put(p, ", ");
        lb_html_digits(p->b, zero);
        put(p, " zero");
    }
    if (bad) {
        put(p, ", <b>");
        lb_html_digits(p->b, bad);
        put(p, " NaN or infinite</b>");
    }
    put(p, "</figcaption>");
    lb_plot_logs(p->r, model, type, scales, p->out);
    put(p, "</figure>\n");
}

static void put_hists(page *p) {
    const lb_report *r = p->r;
    put(p, "<section><h2 id=\"hist\">Histograms</h2>\n"
           "<p>What is stored: how often each code is used, and how large scales and unquantized "
           "values are, on a scale of powers of two in half octaves.</p>\n");
    for (u32 i = 0; i < r->n_models; i++) {
        const lb_report_model *m = &r->models[i];
        if (r->n_models > 1) {
            put(p, "<h3>");
            model_name(p, m);
            put(p, "</h3>\n");
        }
        put(p, "<div class=\"small\">\n");
        for (u32 t = 0; t < r->n_types; t++) {
            const lb_report_hist *h = m->hist[t];
            if (!h || h->n_sampled == 0)
                continue;
            if (h->n_codes)
                codes_figure(p, i, t);
            if (h->n_codes == 0 || sum_of(&h->scales))
                logs_figure(p, i, t, h->n_codes != 0);
            lb_out_spill(p->out);
        }
        put(p, "</div>\n");
        begin_details(p, "Table of histograms");
        hist_table(p, m);
        end_details(p);
    }
    put(p, "</section>\n");
}

/* ---- the end ---- */

static void put_method(page *p) {
    const lb_report *r = p->r;
    put(p,
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
            put(p,
                " values of each tensor: stretches of 65,536 neighbours whose places are equally "
                "spaced, the first at the start of the tensor and the last at its end. The choice "
                "depends on shapes alone. Scales that stand in tensors of their own are sampled "
                "in the same way. A scale is what a code is multiplied with: of types with "
                "sub-blocks, the product of both.</p>\n");
        }
    put(p, "<p>Codes are counted from the one that stands for zero, if there is one; 8-bit floats "
           "in order of their value. Where codebooks have more than 64 points, neighbours share a "
           "bar.");
    if (r->n_models > 1)
        put(p,
            " Errors are computed over all values, not over samples; norms that the other format "
            "stores in another way are undone before.");
    put(p, "</p></section>\n</main>\n<footer>Made by lbrx " LB_VERSION
           ". The same models give the same page, byte for byte.</footer>\n<script>");
    put(p, lb_report_js);
    put(p, "</script></body></html>\n");
}

lb_status lb_report_page(const lb_report *r, lb_out *out, lb_err *err) {
    page p = {.r = r, .out = out, .b = &out->buf};
    put_head(&p);
    lb_out_spill(out);
    LB_TRY(put_cards(&p, err));
    put_types(&p);
    put_layers(&p);
    put_map(&p);
    put_errors(&p);
    put_hists(&p);
    put_method(&p);
    return lb_buf_status(p.b, err);
}
