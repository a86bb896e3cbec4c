import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.data.conversion.RowRowConverter;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.utils.TypeConversions;
import org.apache.flink.types.Row;
import org.apache.flink.types.RowKind;
import org.apache.paimon.Snapshot;
import org.apache.paimon.catalog.Catalog;
import org.apache.paimon.catalog.CatalogContext;
import org.apache.paimon.catalog.CatalogFactory;
import org.apache.paimon.catalog.Identifier;
import org.apache.paimon.data.InternalRow;
import org.apache.paimon.deletionvectors.BitmapDeletionVector;
import org.apache.paimon.deletionvectors.DeletionVector;
import org.apache.paimon.deletionvectors.append.BaseAppendDeleteFileMaintainer;
import org.apache.paimon.disk.IOManager;
import org.apache.paimon.flink.FlinkRowData;
import org.apache.paimon.flink.FlinkRowWrapper;
import org.apache.paimon.flink.LogicalTypeConversion;
import org.apache.paimon.index.IndexFileHandler;
import org.apache.paimon.index.IndexFileMeta;
import org.apache.paimon.io.CompactIncrement;
import org.apache.paimon.io.DataFileMeta;
import org.apache.paimon.io.DataIncrement;
import org.apache.paimon.manifest.BucketEntry;
import org.apache.paimon.manifest.FileKind;
import org.apache.paimon.manifest.IndexManifestEntry;
import org.apache.paimon.options.Options;
import org.apache.paimon.reader.RecordReaderIterator;
import org.apache.paimon.table.BucketMode;
import org.apache.paimon.table.FileStoreTable;
import org.apache.paimon.table.Table;
import org.apache.paimon.table.sink.BatchTableCommit;
import org.apache.paimon.table.sink.BatchTableWrite;
import org.apache.paimon.table.sink.BatchWriteBuilder;
import org.apache.paimon.table.sink.CommitMessage;
import org.apache.paimon.table.sink.CommitMessageImpl;
import org.apache.paimon.table.source.DataSplit;
import org.apache.paimon.table.source.ReadBuilder;
import org.apache.paimon.table.source.Split;
import org.apache.paimon.table.source.StreamTableScan;
import org.apache.paimon.utils.SnapshotManager;

/** Reads and writes tables through Paimon's own scans and writers, without a Flink job. */
final class PaimonCore {

    /** Takes one row: the snapshot that brought it (null in a batch read), its kind and its canonical values. */
    interface RowSink {
        void add(Long snapshot, RowKind kind, List<Object> values) throws Exception;
    }

    private final Catalog catalog;

    PaimonCore(Map<String, String> catalogOptions) {
        // other engines alter the same tables
        Map<String, String> options = new HashMap<>(Map.of("cache-enabled", "false"));
        options.putAll(catalogOptions);
        catalog = CatalogFactory.createCatalog(CatalogContext.create(Options.fromMap(options)));
    }

    /** REQUIRES: {@code name} is "database.table", also with a suffix such as "$ro" or "$branch_b". */
    private Table table(String name, Map<String, String> options) throws Exception {
        return catalog.getTable(Identifier.fromString(name)).copy(options);
    }

    Map<String, LogicalType> columns(String name) throws Exception {
        Map<String, LogicalType> columns = new LinkedHashMap<>();
        table(name, Map.of()).rowType().getFields()
                .forEach(field -> columns.put(field.name(), LogicalTypeConversion.toLogicalType(field.type())));
        return columns;
    }

    /** The snapshots that still exist, oldest first, each as Paimon's own JSON. */
    List<String> snapshots(String name) throws Exception {
        SnapshotManager snapshots = ((FileStoreTable) table(name, Map.of())).snapshotManager();
        List<String> found = new ArrayList<>();
        Long earliest = snapshots.earliestSnapshotId();
        for (long id = earliest == null ? 1 : earliest; earliest != null && id <= snapshots.latestSnapshotId(); id++) {
            found.add(snapshots.snapshot(id).toJson());
        }
        return found;
    }

    void read(String name, Map<String, String> options, RowSink sink) throws Exception {
        ReadBuilder builder = table(name, options).newReadBuilder();
        read(builder, builder.newScan().plan().splits(), List.copyOf(columns(name).values()), null, sink);
    }

    /** The streaming scan's rows of the snapshots (after, until], in the order in which it plans them. */
    void changelog(String name, long after, long until, Map<String, String> options, RowSink sink) throws Exception {
        ReadBuilder builder = table(name, options).newReadBuilder();
        StreamTableScan scan = builder.newStreamScan();
        List<LogicalType> types = List.copyOf(columns(name).values());
        scan.restore(after + 1);
        while (scan.checkpoint() <= until) {
            List<Split> splits = scan.plan().splits();
            long planned = scan.checkpoint() - 1;
            // no splits: the scan went through every snapshot there is
            if (splits.isEmpty() || planned > until) {
                return;
            }
            read(builder, splits, types, planned, sink);
        }
    }

    /** Writes [kind, [values]] pairs as one batch job does: one commit, and its compaction's. */
    void write(String name, JsonNode changes, Map<String, String> options) throws Exception {
        Table table = table(name, options);
        List<DataType> types = dataTypes(List.copyOf(columns(name).values()));
        RowRowConverter converter = RowRowConverter.create(DataTypes.ROW(types.toArray(DataType[]::new)));
        converter.open(PaimonCore.class.getClassLoader());
        commit(table, write -> {
            for (JsonNode change : changes) {
                RowKind kind = CanonicalValues.kind(change.get(0).asText());
                Row row = CanonicalValues.decode(kind, change.get(1), types);
                write.write(new FlinkRowWrapper(converter.toInternal(row)));
            }
        });
    }

    /** Compacts every bucket where its shape asks for it, or all of it. */
    void compact(String name, boolean full, Map<String, String> options) throws Exception {
        FileStoreTable table = (FileStoreTable) table(name, options);
        List<BucketEntry> buckets = table.newSnapshotReader().bucketEntries();
        commit(table, write -> {
            for (BucketEntry bucket : buckets) {
                write.compact(bucket.partition(), bucket.bucket(), full);
            }
        });
    }

    /** Deletes rows of an append table by deletion vectors: positions by name of data file, in one commit. */
    void hide(String name, JsonNode positions, Map<String, String> options) throws Exception {
        FileStoreTable table = (FileStoreTable) table(name, options);
        IndexFileHandler indexes = table.store().newIndexFileHandler();
        Snapshot snapshot = table.snapshotManager().latestSnapshot();
        boolean bucketed = table.bucketMode() != BucketMode.BUCKET_UNAWARE;
        Map<List<Object>, BaseAppendDeleteFileMaintainer> maintainers = new LinkedHashMap<>();
        for (DataSplit split : table.newSnapshotReader().read().dataSplits()) {
            BaseAppendDeleteFileMaintainer maintainer = maintainers.computeIfAbsent(
                    List.of(split.partition(), split.bucket()),
                    key -> bucketed
                            ? BaseAppendDeleteFileMaintainer.forBucketedAppend(
                                    indexes, snapshot, split.partition(), split.bucket())
                            : BaseAppendDeleteFileMaintainer.forUnawareAppend(indexes, snapshot, split.partition()));
            for (DataFileMeta file : split.dataFiles()) {
                if (positions.has(file.fileName())) {
                    DeletionVector vector = new BitmapDeletionVector();
                    positions.get(file.fileName()).forEach(position -> vector.delete(position.asLong()));
                    maintainer.notifyNewDeletionVector(file.fileName(), vector);
                }
            }
        }
        List<CommitMessage> messages = new ArrayList<>();
        for (BaseAppendDeleteFileMaintainer maintainer : maintainers.values()) {
            List<IndexFileMeta> added = new ArrayList<>();
            List<IndexFileMeta> deleted = new ArrayList<>();
            for (IndexManifestEntry entry : maintainer.persist()) {
                (entry.kind() == FileKind.ADD ? added : deleted).add(entry.indexFile());
            }
            messages.add(new CommitMessageImpl(
                    maintainer.getPartition(),
                    maintainer.getBucket(),
                    null,
                    new DataIncrement(List.of(), List.of(), List.of(), added, deleted),
                    CompactIncrement.emptyIncrement()));
        }
        try (BatchTableCommit commit = table.newBatchWriteBuilder().newCommit()) {
            commit.commit(messages);
        }
    }

    private interface Work {
        void on(BatchTableWrite write) throws Exception;
    }

    private static void commit(Table table, Work work) throws Exception {
        BatchWriteBuilder builder = table.newBatchWriteBuilder();
        try (IOManager spills = IOManager.create(System.getProperty("java.io.tmpdir"));
                BatchTableWrite write = builder.newWrite();
                BatchTableCommit commit = builder.newCommit()) {
            write.withIOManager(spills);
            work.on(write);
            commit.commit(write.prepareCommit());
        }
    }

    private static List<DataType> dataTypes(List<LogicalType> types) {
        return types.stream().map(TypeConversions::fromLogicalToDataType).map(DataType::nullable).toList();
    }

    private static void read(
            ReadBuilder builder, List<Split> splits, List<LogicalType> types, Long snapshot, RowSink sink)
            throws Exception {
        RowRowConverter converter = RowRowConverter.create(DataTypes.ROW(dataTypes(types).toArray(DataType[]::new)));
        converter.open(PaimonCore.class.getClassLoader());
        for (Split split : splits) {
            try (var rows = new RecordReaderIterator<InternalRow>(builder.newRead().createReader(split))) {
                while (rows.hasNext()) {
                    InternalRow row = rows.next();
                    RowKind kind = RowKind.fromByteValue(row.getRowKind().toByteValue());
                    Row external = converter.toExternal(new FlinkRowData(row));
                    sink.add(snapshot, kind, CanonicalValues.encode(external, types));
                }
            }
        }
    }
}
