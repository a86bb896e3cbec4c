import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.data.conversion.RowRowConverter;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.utils.TypeConversions;
import org.apache.flink.types.Row;
import org.apache.flink.types.RowKind;
import org.apache.paimon.catalog.Catalog;
import org.apache.paimon.catalog.CatalogContext;
import org.apache.paimon.catalog.CatalogFactory;
import org.apache.paimon.catalog.Identifier;
import org.apache.paimon.data.InternalRow;
import org.apache.paimon.flink.FlinkRowData;
import org.apache.paimon.flink.LogicalTypeConversion;
import org.apache.paimon.options.Options;
import org.apache.paimon.reader.RecordReaderIterator;
import org.apache.paimon.table.FileStoreTable;
import org.apache.paimon.table.Table;
import org.apache.paimon.table.source.ReadBuilder;
import org.apache.paimon.table.source.Split;
import org.apache.paimon.table.source.StreamTableScan;
import org.apache.paimon.utils.SnapshotManager;

/** Reads tables through Paimon's own scans, without a Flink job. */
final class PaimonCore {

    /** Takes one row: the snapshot that brought it (null in a batch read), its kind and its canonical values. */
    interface RowSink {
        void add(Long snapshot, RowKind kind, List<Object> values) throws Exception;
    }

    private final Catalog catalog;

    PaimonCore(Map<String, String> catalogOptions) {
        catalog = CatalogFactory.createCatalog(CatalogContext.create(Options.fromMap(catalogOptions)));
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

    private static void read(
            ReadBuilder builder, List<Split> splits, List<LogicalType> types, Long snapshot, RowSink sink)
            throws Exception {
        DataType[] dataTypes = types.stream().map(TypeConversions::fromLogicalToDataType).toArray(DataType[]::new);
        RowRowConverter converter = RowRowConverter.create(DataTypes.ROW(dataTypes));
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
