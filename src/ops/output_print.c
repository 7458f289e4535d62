/* SPDX-License-Identifier: Apache-2.0 */
/* output_print.c: the plan as --dry-run shows it, and the report of a finished run. */
#include "base/os.h"
#include "io/json.h"
#include "ops/output_internal.h"

static void put_size(lb_buf *out, u64 bytes) {
    static const char *const unit[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    double v = (double)bytes;
    u32 u = 0;
    while (v >= 1000 && u + 1 < LB_LEN(unit)) {
        v /= 1000;
        u++;
    }
    lb_buf_printf(out, u ? "%.2f %s" : "%.0f %s", v, unit[u]);
}

static void put_line(lb_buf *out, const char *what, u64 bytes) {
    lb_buf_printf(out, "%-12s ", what);
    put_size(out, bytes);
    lb_buf_put_c(out, "\n");
}

static u64 disk_bytes(const lb_plan *p) {
    u64 n = 0;
    for (u64 i = 0; i < p->n_files; i++)
        n += p->files[i].size_bytes;
    return n;
}

/* Of sources that are made before the run. */
static u64 made_bytes(const lb_plan *p) {
    u64 n = 0;
    for (u32 i = 0; i < p->graph.n_sources; i++)
        n += p->graph.sources[i]->making ? p->graph.sources[i]->files[0].size_bytes : 0;
    return n;
}

void lb_output_print_plan(const lb_output *x, lb_buf *out) {
    const lb_plan *p = x->plan;
    bool none = !lb_output_is_written(x->opts);
    for (u32 i = 0; i < p->graph.n_sources; i++) {
        const lb_source *s = p->graph.sources[i];
        if (s->making)
            lb_buf_printf(out, "made         %.*s (%llu tensors in a temporary file)\n",
                          LB_FMT(s->label), (unsigned long long)s->n_tensors);
        if (s->n_inputs || s->making)
            continue;
        lb_buf_printf(out, "input        %.*s (%s, %llu tensors)\n", LB_FMT(s->label),
                      lb_format_name(s->format), (unsigned long long)s->n_tensors);
    }
    for (u32 i = 0; i < x->n_parts; i++) {
        const lb_out_part *t = &x->part[i];
        lb_buf_printf(out, "output       %s (%s, %llu tensors, %llu file%s)\n",
                      none || !t->path ? "none" : t->path, lb_format_name(t->model->format),
                      (unsigned long long)t->model->n_tensors, (unsigned long long)t->n_files,
                      t->n_files == 1 ? "" : "s");
    }
    for (u64 i = 0; i < p->n_jobs; i++)
        lb_plan_print_job(p, &p->jobs[i], out);
    for (u32 i = 0; i < x->model->n_remarks; i++)
        lb_buf_printf(out, "note         %.*s\n", LB_FMT(x->model->remarks[i]));
    put_line(out, "read", p->read_bytes);
    put_line(out, "write", none ? 0 : p->write_bytes);
    put_line(out, "disk", none ? 0 : disk_bytes(p));
    if (p->spill_bytes + made_bytes(p))
        put_line(out, "temporary", p->spill_bytes + made_bytes(p));
    put_line(out, "peak memory", p->peak_bytes);
    lb_buf_printf(out, "threads      %u, %u tiles of up to %llu KiB in flight\n", p->threads,
                  p->window, (unsigned long long)(p->target_bytes / LB_KIB));
}

static void json_tensors(const lb_plan *p, lb_buf *out) {
    bool first = true;
    lb_buf text = {0};
    for (u64 i = 0; i < p->n_jobs; i++)
        for (u32 k = 0; k < p->jobs[i].n_streams; k++, first = false) {
            const lb_stream *t = &p->jobs[i].streams[k];
            lb_buf_put_c(out, first ? "\n{\"name\": " : ",\n{\"name\": ");
            lb_json_write_str(out, t->name, false);
            lb_buf_printf(out, ", \"type\": \"%s\", \"shape\": [", lb_dtype_get(t->dtype)->name);
            for (u32 d = 0; d < t->shape->rank; d++)
                lb_buf_printf(out, "%s%llu", d ? ", " : "", (unsigned long long)t->shape->dim[d]);
            lb_buf_reset(&text);
            for (u32 s = 0; s < p->jobs[i].n_segments; s++)
                lb_plan_print_segment(p, &p->jobs[i], s, k, &text);
            lb_buf_put_c(out, "], \"source\": ");
            lb_json_write_str(
                out, text.len > 4 ? lb_str_sub(lb_buf_str(&text), 4, text.len) : LB_STR_NONE,
                false); /* without the first arrow */
            lb_buf_put_c(out, "}");
            out->oom = out->oom || text.oom;
        }
    lb_buf_deinit(&text);
}

static void json_output(const lb_writer_opts *o, lb_buf *out) {
    if (o->output && lb_output_is_written(o))
        lb_json_write_str(out, lb_str_c(o->output), true);
    else
        lb_buf_put_c(out, "null");
}

void lb_output_json_plan(const lb_output *x, lb_buf *out) {
    const lb_plan *p = x->plan;
    bool none = !lb_output_is_written(x->opts);
    lb_buf_put_c(out, "{\"dry_run\": true, \"output\": ");
    json_output(x->opts, out);
    lb_buf_printf(out, ", \"format\": \"%s\", \"tensors\": %llu, \"files\": %llu, \"inputs\": [",
                  lb_format_name(x->model->format), (unsigned long long)x->model->n_tensors,
                  (unsigned long long)p->n_files);
    for (u32 i = 0; i < x->n_read; i++) {
        const lb_source *s = p->graph.sources[x->read[i]];
        lb_buf_put_c(out, i ? ", {\"name\": " : "{\"name\": ");
        lb_json_write_str(out, s->label, true);
        lb_buf_printf(out, ", \"format\": \"%s\", \"tensors\": %llu}", lb_format_name(s->format),
                      (unsigned long long)s->n_tensors);
    }
    lb_buf_printf(out,
                  "], \"bytes_read\": %llu, \"bytes_written\": %llu, \"disk_bytes\": %llu, "
                  "\"peak_memory_bytes\": %llu, \"threads\": %u, \"remarks\": [",
                  (unsigned long long)p->read_bytes,
                  (unsigned long long)(none ? 0 : p->write_bytes),
                  (unsigned long long)(none ? 0 : disk_bytes(p)), (unsigned long long)p->peak_bytes,
                  p->threads);
    for (u32 i = 0; i < x->model->n_remarks; i++) {
        lb_buf_put_c(out, i ? ", " : "");
        lb_json_write_str(out, x->model->remarks[i], true);
    }
    lb_buf_put_c(out, "], \"plan\": [");
    json_tensors(p, out);
    lb_buf_put_c(out, "]}\n");
}

void lb_output_json(const lb_writer_opts *o, const lb_out_report *r, lb_buf *out) {
    lb_buf_put_c(out, "{\"output\": ");
    json_output(o, out);
    lb_buf_printf(out,
                  ", \"format\": \"%s\", \"tensors\": %llu, \"bytes_read\": %llu, "
                  "\"bytes_written\": %llu, \"seconds\": %.6f, "
                  "\"peak_rss_bytes\": %llu, \"pool\": {\"allocations\": %llu, \"reuses\": %llu, "
                  "\"peak_bytes\": %llu, "
                  "\"outstanding\": %llu}, \"bytes_moved\": %llu, \"values_rounded\": %llu, "
                  "\"values_overflowed\": %llu, "
                  "\"tensors_rounded\": %llu, \"tensors_kept\": %llu",
                  lb_format_name(r->format), (unsigned long long)r->n_tensors,
                  (unsigned long long)r->bytes_read, (unsigned long long)r->bytes_written,
                  r->seconds, (unsigned long long)r->peak_rss_bytes,
                  (unsigned long long)r->pool.allocations, (unsigned long long)r->pool.reuses,
                  (unsigned long long)r->pool.peak_bytes, (unsigned long long)r->pool.outstanding,
                  (unsigned long long)r->bytes_moved, (unsigned long long)r->n_rounded,
                  (unsigned long long)r->n_overflowed, (unsigned long long)r->n_rounded_tensors,
                  (unsigned long long)r->n_jobs_kept);
    if (r->sha256[0])
        lb_buf_printf(out, ", \"sha256\": \"%s\"", r->sha256);
    lb_buf_put_c(out, "}\n");
}

void lb_output_text(const lb_writer_opts *o, const lb_out_report *r, lb_buf *out) {
    lb_buf_printf(out, "%s: %s, %llu tensors, read ",
                  o->output && lb_output_is_written(o) ? o->output : "(nothing written)",
                  lb_format_name(r->format), (unsigned long long)r->n_tensors);
    put_size(out, r->bytes_read);
    lb_buf_put_c(out, ", wrote ");
    put_size(out, r->bytes_written);
    lb_buf_printf(out, " in %.2f s", r->seconds);
    if (r->seconds > 0) {
        lb_buf_put_c(out, " (");
        put_size(out, (u64)((double)(r->bytes_read + r->bytes_written) / r->seconds));
        lb_buf_put_c(out, "/s)");
    }
    lb_buf_put_c(out, ", peak memory ");
    put_size(out, r->peak_rss_bytes);
    lb_buf_put_c(out, "\n");
    if (r->n_rounded)
        lb_buf_printf(
            out, "rounded: %llu values of %llu tensors were rounded once to the output's type%s\n",
            (unsigned long long)r->n_rounded, (unsigned long long)r->n_rounded_tensors,
            r->n_overflowed ? "" : "; none overflowed");
    if (r->n_overflowed)
        lb_buf_printf(out, "overflow: %llu finite values became infinite: use a wider --dtype\n",
                      (unsigned long long)r->n_overflowed);
    if (r->n_jobs_kept)
        lb_buf_printf(out, "resumed: %llu tensors of the interrupted run were kept\n",
                      (unsigned long long)r->n_jobs_kept);
}
