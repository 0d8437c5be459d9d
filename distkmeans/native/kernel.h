/* The assignment of rows to centroids, for one instruction set. Included once for each, after isa.h. */

/* Squared distances of FOUR pairs of a stored row and a float32 centroid, from the differences: each of them, its square
   and the 2 LANES running sums round relatively: |computed - true| <= (dims / (2 LANES) + 40) 2**-24 true + underflow. */
#define DISTANCES(name, type, LOAD_ROW, convert)                                                                  \
    static inline void V(distances_##name)(const type *const *x, const float *const *c, int dims, float *out) {    \
        V(vec) a[4], b[4];                                                                                        \
        int d = 0;                                                                                                \
        for (int i = 0; i < 4; i++) a[i] = b[i] = ZERO();                                                         \
        for (; d + 2 * LANES <= dims; d += 2 * LANES)                                                             \
            for (int i = 0; i < 4; i++) {                                                                         \
                const V(vec) first = SUB(LOAD_ROW(x[i] + d), LOAD(c[i] + d));                                     \
                const V(vec) second = SUB(LOAD_ROW(x[i] + d + LANES), LOAD(c[i] + d + LANES));                    \
                a[i] = MUL_ADD(first, first, a[i]), b[i] = MUL_ADD(second, second, b[i]);                         \
            }                                                                                                     \
        for (; d + LANES <= dims; d += LANES)                                                                     \
            for (int i = 0; i < 4; i++) {                                                                         \
                const V(vec) first = SUB(LOAD_ROW(x[i] + d), LOAD(c[i] + d));                                     \
                a[i] = MUL_ADD(first, first, a[i]);                                                               \
            }                                                                                                     \
        for (int i = 0; i < 4; i++) out[i] = TOTAL(ADD(a[i], b[i]));                                              \
        for (; d < dims; d++)                                                                                     \
            for (int i = 0; i < 4; i++) {                                                                         \
                const float rest = convert(x[i][d]) - c[i][d];                                                    \
                out[i] += rest * rest;                                                                            \
            }                                                                                                     \
    }
DISTANCES(f32, float, LOAD, (float))
DISTANCES(f16, uint16_t, LOAD_F16, half_to_float)
DISTANCES(bf16, uint16_t, LOAD_BF16, bfloat_to_float)
DISTANCES(u8, uint8_t, LOAD_U8, (float))
DISTANCES(i8, int8_t, LOAD_I8, (float))
#undef DISTANCES

/* Of four local rows and the centroids numbered ``label``. */
static inline void V(distances)(const Rows *rows, const float *centroids, const int32_t *row, const int32_t *label,
                                float *out) {
    const char *x[4];
    const float *c[4];
    for (int i = 0; i < 4; i++) {
        x[i] = (const char *)rows->data + row[i] * rows->stride * row_bytes(rows->type);
        c[i] = centroids + (size_t)label[i] * rows->dims;
    }
    switch (rows->type) {
    case F16: V(distances_f16)((const uint16_t *const *)x, c, rows->dims, out); break;
    case BF16: V(distances_bf16)((const uint16_t *const *)x, c, rows->dims, out); break;
    case U8: V(distances_u8)((const uint8_t *const *)x, c, rows->dims, out); break;
    case I8: V(distances_i8)((const int8_t *const *)x, c, rows->dims, out); break;
    default: V(distances_f32)((const float *const *)x, c, rows->dims, out);
    }
}

static inline void V(block)(int bits, const int32_t *rows, size_t step, const uint32_t *panel, int words,
                            const int32_t *bias, const int32_t *threshold, uint32_t *mask) {
    if (bits == 8)
        V(block8)(rows, step, panel, words, bias, threshold, mask);
    else
        V(block16)(rows, step, panel, words, bias, threshold, mask);
}

/* Of blocks with rows that have no label, the best integer score is a guess of the nearest centroid: it only has to be
   near for the pruning to work. Scores of other levels are brought to level 0. scores: NULL, or room for them, block by
   block; known: of which blocks they are there. */
static void V(guess)(const Assignment *a, int32_t *record, int blocks, int32_t *scores, uint8_t *known) {
    int32_t best[16 * ROWS], place[16 * ROWS], total[ROWS];
    for (int b = 0; b < blocks; b++) {
        known[b] = 0;
        int32_t *rows = record + (size_t)b * ROWS * a->step;
        int unknown = 0;
        for (int r = 0; r < ROWS; r++) unknown |= rows[r * a->step + ID] >= 0 && rows[r * a->step + LABEL] < 0;
        if (!unknown) continue;
        for (int r = 0; r < ROWS; r++) total[r] = rows[r * a->step + MARGIN + TOTAL_];
        int32_t *score = scores ? scores + (size_t)b * a->all.count * ROWS * PANEL : 0;
        known[b] = score != 0;
        for (int i = 0; i < 16 * ROWS; i++) best[i] = INT32_MIN, place[i] = 0;
        for (int p = 0; p < a->all.count; p++) {
            const uint32_t *panel = a->all.words + (size_t)p * PANEL * a->words;
            int32_t bias[PANEL]; /* a centroid without a head is no guess */
            for (int k = 0; k < PANEL; k++)
                bias[k] = a->all.bias[p * PANEL + k] == ALWAYS ? -ALWAYS : a->all.bias[p * PANEL + k];
            const int level = a->all.level[p];
            if (a->bits == 8)
                V(block8_best)(rows + HEADER, a->step, panel, a->words, bias, total, level, p * PANEL, best, place, score);
            else
                V(block16_best)(rows + HEADER, a->step, panel, a->words, bias, total, level, p * PANEL, best, place, score);
            if (score) score += ROWS * PANEL;
        }
        for (int r = 0; r < ROWS; r++) {
            int lane = 0;
            for (int i = 1; i < 16; i++)
                if (best[16 * r + i] > best[16 * r + lane]) lane = i;
            const int32_t k = a->all.map[place[16 * r + lane] + lane];
            rows[r * a->step + LABEL] = k < 0 ? 0 : k;
        }
    }
}

/* What is known of the labels of a block's rows, ROWS at a time. Returns whether any row must be compared with all
   centroids: not one whose own did not move, or came no farther, as those that did not move were not nearer before. */
static int V(own)(const Assignment *a, const int32_t *record, int rows, Found *found) {
    int32_t id[ROWS + 4], label[ROWS + 4], which[ROWS + 4], count = 0;
    int everyone = !a->restricted;
    float distance[4];
    for (int r = 0; r < rows; r++, record += a->step) {
        const float low = as_float(record[LOW]), high = as_float(record[HIGH]);
        found[r] = (Found){.low = low, .high = high, .distance = -1, .label = record[LABEL]};
        if (a->moved[record[LABEL]] || high == FLT_MAX)
            id[count] = record[a->row_by], label[count] = record[LABEL], which[count++] = r;
    }
    if (!count) return everyone;
    for (int i = count; i % 4; i++) id[i] = id[0], label[i] = label[0];
    for (int i = 0; i < count; i += 4) {
        V(distances)(&a->rows, a->centroids, id + i, label + i, distance);
        for (int j = 0; j < 4 && i + j < count; j++) {
            Found *f = found + which[i + j];
            const double before = f->low, known = f->high < FLT_MAX;
            f->distance = distance[j], from_distance(a, f);
            everyone |= a->moved[f->label] && !(known && f->high <= before);
        }
    }
    return everyone;
}

/* The least integer score of a centroid of this level that can be nearer than one at most so far away; below ALWAYS. */
static inline int32_t V(threshold)(const Margin *m, const int32_t *record, int head, double high, int level) {
    double t = 0.5 * m->unit * (1 << level) * (as_float(record[SQUARE]) - high);
    t -= as_float(record[head + EXCESS]) * m->reach + as_float(record[head + SIZE]) * m->residue;
    t = floor(t) - 2, t = t >= ALWAYS ? ALWAYS - 1 : t;
    t += record[head + TOTAL_];
    return !(t >= -2147483647.0) ? INT32_MIN : (int32_t)t;
}

/* Of a block's rows but for padding, which has INT32_MAX. */
static void V(thresholds)(const Assignment *a, const int32_t *record, const Found *found, int level, int32_t *threshold) {
    for (int r = 0; r < ROWS && threshold[r] < INT32_MAX; r++)
        threshold[r] = V(threshold)(&a->margin, record + (size_t)r * a->step, MARGIN, found[r].high, level);
}

/* The blocks' means as records of their own: a centroid can be a survivor for a row x = m + r of a block only if
       m.q + bias + r.q >= threshold(x),   r.q <= |r| |q - m| + r.m,   |q - m|^2 <= |m|^2 + gap - 2 (m.q + bias)
   with gap = max over k of |q_k|^2 + 2 bias_k. With rho the largest |r| and off = max(r.m - threshold), solved for the
   score of the mean:
       m.q + bias >= (M - (rho + sqrt(rho^2 + M + 2 off))^2) / 2,   M = |m|^2 + gap. */
static int32_t V(least)(const Assignment *a, const Shape *shape, const int32_t *threshold) {
    double off = -1e300;
    for (int r = 0; r < ROWS; r++) {
        const double gain = (double)shape->gain[r] - threshold[r];
        off = gain > off ? gain : off;
    }
    const double rho = shape->rho;
    double root = rho * rho + shape->square * (1 + 1e-8) + a->gap + 2 * off;
    root = rho + sqrt(root > 0 ? root : 0);
    const double t = (shape->square + a->gap - root * root * (1 + 1e-9)) / 2 - 2;
    return t < -2147483647.0 ? INT32_MIN : t > 2147483000.0 ? 2147483000 : (int32_t)floor(t);
}

static void V(shape)(const Assignment *a, const int32_t *rows, int32_t *mean, Shape *shape) {
    const int width = 2 * a->words;
    float m[2 * MOST_WORDS_SKIPPED];
    int16_t *whole = (int16_t *)mean;
    for (int d = 0; d < width; d++) m[d] = 0;
    for (int r = 0; r < ROWS; r++) {
        const int16_t *x = (const int16_t *)(rows + r * a->step + HEADER);
        for (int d = 0; d < width; d++) m[d] += x[d];
    }
    double square = 0, rho = 0;
    for (int d = 0; d < width; d++) {
        whole[d] = (int16_t)lrintf(m[d] * (1.0f / ROWS));
        m[d] = whole[d], square += (double)m[d] * m[d];
    }
    for (int r = 0; r < ROWS; r++) {
        const int16_t *x = (const int16_t *)(rows + r * a->step + HEADER);
        float q = 0, z = 0, size = 0;
        for (int d = 0; d < width; d++) {
            const float e = x[d] - m[d];
            q += e * e, z += e * m[d], size += fabsf(e * m[d]);
        }
        rho = q > rho ? q : rho;
        shape->gain[r] = toward(z + 1e-4 * (double)size, 1);
    }
    shape->square = square * (1 - 1e-9), shape->rho = sqrt(rho * (1 + 1e-4)) * (1 + 1e-9);
}

static void V(shapes_part)(void *argument, int part, int parts) {
    const Assignment *a = argument;
    const int64_t blocks = a->count / ROWS;
    for (int64_t b = blocks * part / parts; b < blocks * (part + 1) / parts; b++)
        V(shape)(a, a->records + b * ROWS * a->step, a->means + b * a->words, a->shapes + b);
}

/* A centroid at distance ``d`` for a row of the tile. One that rounding cannot tell from the best is noted. */
static inline void V(offer)(const Assignment *a, const int32_t *record, int row, int32_t k, float d, Found *found,
                            Near *near) {
    const double low = d * (1 - (double)a->relative) - a->absolute, high = d * (1 + (double)a->relative) + a->absolute;
    if (low > found->high) return;
    if (high < found->low) {
        *found = (Found){low, high, d, k, 0};
        return;
    }
    if (found->distance < 0) {
        const int32_t at = record[a->row_by], id[4] = {at, at, at, at};
        const int32_t label[4] = {found->label, found->label, found->label, found->label};
        float distance[4];
        V(distances)(&a->rows, a->centroids, id, label, distance);
        found->distance = distance[0], from_distance(a, found);
        V(offer)(a, record, row, k, d, found, near);
        return;
    }
    found->near++;
    note(near, row, found->label, found->distance), note(near, row, k, d);
    if (d < found->distance) found->distance = d, found->label = k, from_distance(a, found);
}

static void V(resolve)(const Assignment *a, const int32_t *record, Queue *queue, Found *found, Near *near) {
    for (int i = queue->count; i % 4; i++) queue->row[i] = queue->row[0], queue->label[i] = queue->label[0];
    for (int i = 0; i < queue->count; i += 4) {
        int32_t id[4];
        float distance[4];
        for (int j = 0; j < 4; j++) id[j] = record[queue->row[i + j] * (size_t)a->step + a->row_by];
        V(distances)(&a->rows, a->centroids, id, queue->label + i, distance);
        for (int j = 0; j < 4 && i + j < queue->count; j++) {
            const int r = queue->row[i + j];
            V(offer)(a, record + r * (size_t)a->step, r, queue->label[i + j], distance[j], found + r, near);
        }
    }
    queue->count = 0;
}

/* Keeps, of the entries of the queue from ``begin`` on, those that the longer heads cannot rule out. least: of the rows
   of their block, for each level. */
static void V(sieve)(const Assignment *a, const int32_t *record, int block, int32_t (*least)[ROWS], Queue *queue, int begin) {
    const Longer *l = &a->longer;
    int kept = begin;
    for (int i = queue->count; (i - begin) % 4; i++) queue->row[i] = queue->row[begin], queue->label[i] = queue->label[begin];
    for (int i = begin; i < queue->count; i += 4) {
        const int32_t *x[4];
        const uint32_t *c[4];
        int32_t score[4], label[4], row[4];
        for (int j = 0; j < 4; j++) {
            row[j] = queue->row[i + j], label[j] = queue->label[i + j];
            x[j] = l->rows + (size_t)record[row[j] * (size_t)a->step + PLACE] * l->words;
            c[j] = l->centroids + (size_t)label[j] * l->words;
        }
        if (a->bits == 8)
            V(four8)(x, c, l->words, score);
        else
            V(four16)(x, c, l->words, score);
        for (int j = 0; j < 4 && i + j < queue->count; j++) {
            queue->row[kept] = row[j], queue->label[kept] = label[j];
            const int level = l->level ? l->level[label[j]] : 0;
            kept += (int64_t)score[j] + l->bias[label[j]] >= least[level][row[j] - block * ROWS];
        }
    }
    queue->count = kept;
}

/* The survivors of a block: sieved by the longer heads, then in full. */
static void V(survivors)(const Assignment *a, const Panels *set, const int32_t *record, uint32_t (*mask)[ROWS], int block,
                         const int16_t *kept, int count, int first, Found *found, Near *near, Queue *queue,
                         int64_t *pairs) {
    const int sieved = a->longer.rows != 0, levels = a->longer.level ? LEVELS : 1;
    int32_t label[ROWS], least[LEVELS][ROWS];
    uint32_t hits[GROUP], all = 0;
    for (int w = 0; w < count; w++) hits[w] = V(hits)(mask[w]), all |= hits[w];
    for (uint32_t h = all; h; h &= h - 1) {
        const int r = __builtin_ctz(h), row = block * ROWS + r;
        const int32_t *own = record + row * (size_t)a->step;
        label[r] = own[LABEL];
        if (sieved) prefetch_long(a, own);
        for (int level = 0; sieved && level < levels; level++)
            least[level][r] = V(threshold)(&a->longer.margin, own, LONG_MARGIN, found[row].high, level);
    }
    int begin = queue->count;
    for (int w = 0; w < count; w++) {
        const int32_t *map = set->map + (first + kept[w]) * PANEL;
        for (uint32_t h = hits[w]; h; h &= h - 1) {
            const int r = __builtin_ctz(h);
            if (queue->count > QUEUE - 36) {
                if (sieved) V(sieve)(a, record, block, least, queue, begin);
                if (queue->count > QUEUE - 36) *pairs += queue->count, V(resolve)(a, record, queue, found, near);
                begin = queue->count;
            }
            for (uint32_t m = mask[w][r]; m; m &= m - 1) {
                const int32_t k = map[__builtin_ctz(m)];
                queue->row[queue->count] = block * ROWS + r, queue->label[queue->count] = k;
                queue->count += k >= 0 && k != label[r];
            }
        }
    }
    if (sieved && queue->count > begin) V(sieve)(a, record, block, least, queue, begin);
    *pairs += queue->count;
    V(resolve)(a, record, queue, found, near);
}

/* An open row: by float64 distances if these tell its centroids apart, else by the judge. Every difference is a normal
   number; it, its square and the sums of dims terms round relatively. */
static void V(decide)(Assignment *a, int32_t *record, int32_t place, int row, Found *found, const Near *near) {
    const double error = (a->rows.dims + 8) * 0x1p-53;
    int32_t label[NEAR];
    double distance[NEAR], best = INFINITY;
    int many = nearest_of(a, near, row, found, label), left = 0;
    for (int i = 0; i < many; i++) {
        const float *c = a->centroids + (size_t)label[i] * a->rows.dims;
        distance[i] = 0;
        for (int d = 0; d < a->rows.dims; d++) {
            const double rest = stored(&a->rows, record[a->row_by], d) - c[d];
            distance[i] += rest * rest;
        }
        best = distance[i] < best ? distance[i] : best;
    }
    for (int i = 0; i < many; i++) {
        label[left] = label[i];
        left += distance[i] * (1 - error) <= best * (1 + error);
    }
    if (many < 0) label[0] = EVERY, left = 1;
    if (many > 0 && left == 1) {
        record[LABEL] = a->labels[record[ID]] = label[0];
        record[LOW] = as_int(toward(best, -1)), record[HIGH] = as_int(toward(best, 1));
        return;
    }
    record[HIGH] = as_int(FLT_MAX);
    tell(a, place, label, left);
}

/* As ``block``, of scores that ``guess`` has found: there, a centroid without a head came last. */
static void V(met)(const int32_t *score, const int32_t *bias, const int32_t *threshold, uint32_t *mask) {
    uint32_t always = 0;
    for (int k = 0; k < PANEL; k++) always |= (uint32_t)(bias[k] == ALWAYS) << k;
    V(passed)(score, threshold, mask);
    for (int r = 0; always && r < ROWS; r++)
        if (threshold[r] < INT32_MAX) mask[r] |= always;
}

static double V(step_of)(const Rows *now, int64_t i, const Rows *was, int64_t j, double scale, double *scratch);

/* ahead: how many of the records that follow the tile's come next. */
static void V(tile)(Assignment *a, int64_t tile, int ahead, Counts *counts, double *scratch, int32_t *scores) {
    uint32_t mask[BLOCKS][GROUP][ROWS];
    int32_t threshold[TILE], least[ROWS];
    Found found[TILE];
    Near near;
    Queue queue;
    int16_t kept[BLOCKS][GROUP];
    int nkept[BLOCKS];
    uint8_t everyone[BLOCKS], known[BLOCKS];
    int32_t *record = a->records + (size_t)tile * TILE * a->step;
    const Rows centroids = {a->centroids, a->rows.dims, F32, a->rows.dims};
    const int64_t left = a->count - tile * TILE;
    const int blocks = (int)(left < TILE ? left : TILE) / ROWS;

    near.count = queue.count = 0;
    V(guess)(a, record, blocks, scores, known);
    for (int b = 0; b < blocks; b++) {
        int rows = 0;
        while (rows < ROWS && record[(size_t)(b * ROWS + rows) * a->step + ID] >= 0) rows++;
        everyone[b] = (uint8_t)V(own)(a, record + (size_t)b * ROWS * a->step, rows, found + b * ROWS);
        for (int r = 0; r < ROWS; r++) threshold[b * ROWS + r] = r < rows ? 0 : INT32_MAX;
        V(thresholds)(a, record + (size_t)b * ROWS * a->step, found + b * ROWS, 0, threshold + b * ROWS);
        counts->full += everyone[b];
        least[b] = a->skip ? V(least)(a, a->shapes + tile * BLOCKS + b, threshold + b * ROWS) : 0;
    }
    for (int b = blocks; b < BLOCKS; b++) least[b] = INT32_MAX;
    const int32_t *means = a->means + (size_t)tile * BLOCKS * a->words;
    for (int full = 1; full >= 0; full--) {
        const Panels *set = full ? &a->all : &a->some;
        int any = 0, level = 0;
        for (int b = 0; b < blocks; b++) any |= everyone[b] == full;
        for (int first = 0; any && first < set->count; first += GROUP) {
            const int last = set->count - first < GROUP ? set->count - first : GROUP;
            for (int b = 0; b < blocks; b++) nkept[b] = 0;
            for (int p = 0; p < last; p++) {
                const uint32_t *panel = set->words + (size_t)(first + p) * PANEL * a->words;
                const int32_t *bias = set->bias + (first + p) * PANEL;
                uint32_t close[ROWS];
                const int from = (first + p) * ahead / (int)set->count, to = (first + p + 1) * ahead / (int)set->count;
                for (int b = 0; level != set->level[first + p] && b < blocks; b++)
                    if (everyone[b] == full)
                        V(thresholds)(a, record + (size_t)b * ROWS * a->step, found + b * ROWS, set->level[first + p],
                                      threshold + b * ROWS);
                level = set->level[first + p];
                if (full) prefetch_rows(a, record + (size_t)(TILE + from) * a->step, to - from);
                if (a->skip) V(block)(a->bits, means, a->words, panel, a->words, bias, least, close);
                for (int b = 0; b < blocks; b++) {
                    if (everyone[b] != full || (a->skip && !close[b])) continue;
                    kept[b][nkept[b]] = (int16_t)p;
                    if (full && known[b]) {
                        const int32_t *score = scores + ((size_t)b * set->count + first + p) * ROWS * PANEL;
                        V(met)(score, bias, threshold + b * ROWS, mask[b][nkept[b]++]);
                        continue;
                    }
                    V(block)(a->bits, record + (size_t)b * ROWS * a->step + HEADER, a->step, panel, a->words, bias,
                             threshold + b * ROWS, mask[b][nkept[b]++]);
                }
            }
            for (int b = 0; b < blocks; b++) {
                counts->blocks += nkept[b];
                if (!nkept[b]) continue;
                V(survivors)(a, set, record, mask[b], b, kept[b], nkept[b], first, found, &near, &queue, &counts->pairs);
                if (first + GROUP < set->count)
                    V(thresholds)(a, record + (size_t)b * ROWS * a->step, found + b * ROWS, level, threshold + b * ROWS);
            }
        }
    }
    for (int r = 0; r < blocks * ROWS; r++) {
        int32_t *row = record + (size_t)r * a->step;
        if (row[ID] < 0) continue;
        counts->changed += row[LABEL] != found[r].label;
        row[LABEL] = found[r].label;
        row[LOW] = as_int(toward(found[r].low, -1)), row[HIGH] = as_int(toward(found[r].high, 1));
        a->labels[row[ID]] = found[r].label;
        if (found[r].near) V(decide)(a, row, (int32_t)(tile * TILE + r), r, found + r, &near);
        if (!a->costs) continue;
        const int open = found[r].near && as_float(row[HIGH]) == FLT_MAX;
        a->costs[row[ID]] = open ? -1 : V(step_of)(&a->rows, row[a->row_by], &centroids, row[LABEL], a->scale, scratch);
    }
}

static void V(assign_part)(void *argument, int part, int parts) {
    Assignment *a = argument;
    Counts counts = {0};
    /* one after another, so that the next one's rows can be fetched meanwhile */
    const int64_t share = a->count / TILE / (8 * parts), many = share < 1 ? 1 : share < 8 ? share : 8;
    int32_t *scores = a->scores ? a->scores + (size_t)part * BLOCKS * (size_t)a->all.count * ROWS * PANEL : 0;
    double *scratch = a->costs ? a->scratch + (size_t)part * 2 * (size_t)a->rows.dims : 0;
    for (;;) {
        const int64_t first = __atomic_fetch_add(&a->next, many, __ATOMIC_RELAXED);
        if (first * TILE >= a->count) break;
        for (int64_t tile = first; tile < first + many && tile * TILE < a->count; tile++) {
            const int64_t left = tile + 1 < first + many ? a->count - (tile + 1) * TILE : 0;
            V(tile)(a, tile, (int)(left < 0 ? 0 : left < TILE ? left : TILE), &counts, scratch, scores);
        }
    }
    __atomic_fetch_add(&a->counts.pairs, counts.pairs, __ATOMIC_RELAXED);
    __atomic_fetch_add(&a->counts.blocks, counts.blocks, __ATOMIC_RELAXED);
    __atomic_fetch_add(&a->counts.full, counts.full, __ATOMIC_RELAXED);
    __atomic_fetch_add(&a->counts.changed, counts.changed, __ATOMIC_RELAXED);
}

/* Squared distances of rows to the centroids of their labels. */
static void V(costs_part)(void *argument, int part, int parts) {
    const Costs *c = argument;
    for (int64_t i = c->count * part / parts; i < c->count * (part + 1) / parts; i += 4) {
        int32_t row[4], label[4];
        float out[4];
        for (int j = 0; j < 4; j++) {
            row[j] = (int32_t)(i + j < c->count ? i + j : c->count - 1);
            label[j] = c->labels[row[j]];
        }
        V(distances)(&c->rows, c->centroids, row, label, out);
        for (int j = 0; j < 4 && i + j < c->count * (part + 1) / parts; j++) c->out[i + j] = out[j];
    }
}
