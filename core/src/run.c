/* Pictures in, logits out: the steps of a model, one after the other, each on all threads. */
#include <time.h>

#include "model.h"
#include "pool.h"
#include "scalar.h"

typedef struct run {
    const ob_model *model;
    const uint8_t *picture;
    int32_t *logits;
    uint8_t *maps, *scratch;
    const ob_step *step; /* the one that threads share now */
} run;

static ob_map map_of(const run *r, int32_t i) {
    ob_map map = r->model->steps[i].map;
    map.data = r->maps + r->model->steps[i].at;
    return map;
}

static int32_t share(int32_t count, int part, int parts) { return (int32_t)((int64_t)count * part / parts); }

#ifdef OB_SMALL /* one thread */
static void share_tiles(const ob_table_layer *l, ob_table_job *job, int part, int parts) {
    (void)part, (void)parts;
    job->tile_end = l->tile_rows * l->columns, job->output_end = l->outputs;
}
#else
/* Which part of a layer by tables a thread does: `a` parts of the tiles times parts / a of the outputs. The fewest steps
 * one after the other win; whoever shares outputs makes the same tables again, which costs as much as some outputs more.
 * With a matrix unit it is images, and 16 outputs at once. */
static void share_tiles(const ob_table_layer *l, ob_table_job *job, int part, int parts) {
    const int32_t unit = l->matrix ? OB_MATRIX_OUTPUTS : 1, tiles = l->tile_rows * l->columns;
    const int32_t outputs = (l->outputs + unit - 1) / unit, tables = l->matrix ? 1 : 12 + (2 << l->bits) / 8;
    int best = 1;
    int64_t least = INT64_MAX;
    for (int a = 1; a <= parts; a++) {
        if (parts % a) continue;
        const int b = parts / a;
        const int64_t steps = (int64_t)((tiles + a - 1) / a) * ((outputs + b - 1) / b + l->extra + tables);
        if (steps < least) least = steps, best = a;
    }
    const int x = part % best, y = part / best, b = parts / best;
    job->tile = share(tiles, x, best), job->tile_end = share(tiles, x + 1, best);
    job->output = share(outputs, y, b) * unit, job->output_end = share(outputs, y + 1, b) * unit;
    if (job->output_end > l->outputs) job->output_end = l->outputs;
}
#endif

/* Logits of a kernel of 1 x 1: all positions have the same weights, so each channel's numbers are summed first. */
static void logits_of_totals(const ob_operation *op, const int32_t *totals, int32_t channels, int32_t *logits,
                             int32_t from, int32_t to) {
    int32_t all = 0;
    for (int32_t c = 0; c < channels; c++) all += totals[c];
    for (int32_t k = from; k < to; k++) {
        const uint8_t *row = op->rows + (size_t)k * (size_t)op->row_bytes;
        int32_t positive = 0; /* the sum over the weights that are +1 */
        for (int32_t c = 0; c < channels; c++) positive += totals[c] & -(row[c / 8] >> c % 8 & 1);
        const int32_t s = positive - (all - positive);
        logits[k] = ((s + (1 << op->shift >> 1)) >> op->shift) * ob_read32(op->gains + 8 * (size_t)k) +
                    ob_read32(op->gains + 8 * (size_t)k + 4);
    }
}

static void do_step(void *context, int part, int parts) {
    const run *r = context;
    const ob_step *step = r->step;
    const ob_operation *op = &step->operation;
    const int32_t i = (int32_t)(step - r->model->steps);
    const int32_t from = share(op->value.channels, part, parts), to = share(op->value.channels, part + 1, parts);
    const ob_map y = map_of(r, i);
    const ob_table_kernels *table = r->model->isa->table;
    const ob_value *source = op->kind == OB_TABLE ? NULL : &r->model->steps[op->source].operation.value;
    const ob_map x = source ? map_of(r, op->source) : y;
    if (step->layer) {
        ob_table_job job = {.layer = step->layer, .source = x, .scratch = r->scratch + (size_t)part * (size_t)r->model->scratch};
        if (op->base >= 0) job.base = map_of(r, op->base);
        if (step->kept) job.sum = y;
        if (step->fused >= 0) job.activation = map_of(r, step->fused);
        share_tiles(step->layer, &job, part, parts);
        if (job.tile >= job.tile_end || job.output >= job.output_end) return;
        if (step->layer->matrix) r->model->isa->matrix(&job);
        else table->conv(&job);
        return;
    }
    switch (op->kind) {
    case OB_TABLE: ob_scalar_table(op, r->picture, &y, from, to); break;
    case OB_CONV: {
        const ob_map base = op->base >= 0 ? map_of(r, op->base) : y;
        ob_scalar_conv(op, source, &x, op->base >= 0 ? &base : NULL, &y, from, to);
        break;
    }
    case OB_NORM:
        if (table) table->norm(op, step->norm, &x, &y, from, to);
#ifndef OB_SMALL /* all of its instruction sets have tables */
        else ob_scalar_norm(op, &x, &y, from, to);
#endif
        break;
    case OB_AVERAGE:
        if (!table || !table->average(op, source, &x, &y, from, to)) ob_scalar_average(op, source, &x, &y, from, to);
        break;
    case OB_MAX: ob_scalar_max(op, &x, &y, from, to); break;
    case OB_LOGITS:
        if (table && op->height == 1 && op->width == 1) {
            int32_t *totals = (int32_t *)(void *)(r->scratch + (size_t)part * (size_t)r->model->scratch);
            table->totals(source, &x, totals);
            logits_of_totals(op, totals, x.channels, r->logits, from, to);
        } else
            ob_scalar_logits(op, source, &x, r->logits, from, to);
        break;
    }
}

static int64_t now(void) {
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

size_t ob_arena_size(const ob_model *model, const ob_pool *pool) {
    if (!model) return 0;
    const uint64_t bytes = model->maps + model->scratch * (uint64_t)ob_pool_threads(pool);
    return bytes <= SIZE_MAX ? (size_t)bytes : SIZE_MAX;
}

static ob_status check(const ob_model *model, const ob_pool *pool, const void *pictures, const void *logits,
                       const void *arena, size_t arena_bytes) {
    if (!model || !pictures || !logits || !arena || (uintptr_t)arena % OB_ALIGNMENT) return OB_ERROR_ARGUMENT;
    return arena_bytes < ob_arena_size(model, pool) ? OB_ERROR_MEMORY : OB_OK;
}

static void run_picture(run *r, ob_pool *pool, int64_t *nanoseconds) {
    for (int32_t i = 0; i < r->model->count; i++) {
        const ob_step *step = &r->model->steps[i];
        if (nanoseconds) nanoseconds[i] = 0;
        if (step->operation.kind == OB_NORM && step->fused >= 0) continue;
        const int64_t begin = nanoseconds ? now() : 0;
        r->step = step;
        ob_pool_run(pool, do_step, r);
        if (nanoseconds) nanoseconds[i] = now() - begin;
    }
}

ob_status ob_run(const ob_model *model, ob_pool *pool, const uint8_t *pictures, size_t count, int32_t *logits,
                 void *arena, size_t arena_bytes) {
    if (count == 0) return OB_OK;
    const ob_status status = check(model, pool, pictures, logits, arena, arena_bytes);
    if (status) return status;
    const size_t bytes = (size_t)model->shape.channels * (size_t)model->shape.height * (size_t)model->shape.width;
    run r = {.model = model, .maps = arena, .scratch = (uint8_t *)arena + model->maps};
    for (size_t i = 0; i < count; i++) {
        r.picture = pictures + i * bytes;
        r.logits = logits + i * (size_t)model->shape.classes;
        run_picture(&r, pool, NULL);
    }
    return OB_OK;
}

ob_status ob_run_timed(const ob_model *model, ob_pool *pool, const uint8_t *picture, int32_t *logits, void *arena,
                       size_t arena_bytes, int64_t *nanoseconds) {
    const ob_status status = check(model, pool, picture, logits, arena, arena_bytes);
    if (status) return status;
    if (!nanoseconds) return OB_ERROR_ARGUMENT;
    run r = {.model = model, .picture = picture, .logits = logits, .maps = arena, .scratch = (uint8_t *)arena + model->maps};
    run_picture(&r, pool, nanoseconds);
    return OB_OK;
}
