//! Objects that have been converted for one answer.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use xebec_api::{Reason, Status, json};
use xebec_store::{Key, Record, Revision};

use super::{Converter, Hold};
use crate::core::Core;
use crate::registry::table::Served;
use crate::registry::{convert, facts};

/// About how many bytes of objects are converted at once.
pub(crate) const BATCH: usize = 2 * 1024 * 1024;
/// How many objects are converted at once.
const BATCH_OBJECTS: usize = 1000;

/// The objects of records in a version that they are not stored in. Of a resource without a converter: nothing.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    objects: HashMap<(Key, Revision), (Bytes, Hold)>,
}

impl Ready {
    /// Has the objects of those records converted that are in another version.
    ///
    /// # Errors
    /// 500: one of them cannot be converted. 503: there is no room for so many.
    pub(crate) async fn of<'a>(
        core: &Core,
        served: &Served,
        records: impl IntoIterator<Item = &'a Record>,
    ) -> Result<Self, Status> {
        let mut ready = Self::default();
        let Some(converter) = &served.row.converter else { return Ok(ready) };
        let others = records.into_iter().filter(|record| !served.speaks(record));
        let others: Vec<&Record> = others.collect();
        let mut left = others.as_slice();
        while !left.is_empty() {
            let (batch, rest) = left.split_at(batch(left));
            ready.add(core, served, converter, batch).await?;
            left = rest;
        }
        Ok(ready)
    }

    /// The object of a record, if it has been converted.
    pub(crate) fn get(&self, record: &Record) -> Option<&Bytes> {
        if self.objects.is_empty() {
            return None;
        }
        self.objects.get(&(record.key().clone(), record.mod_revision())).map(|(bytes, _)| bytes)
    }

    /// Takes over what another one has of a record.
    pub(crate) fn adopt(&mut self, other: &mut Self, record: &Record) {
        let taken = other.objects.remove_entry(&(record.key().clone(), record.mod_revision()));
        self.objects.extend(taken);
    }

    async fn add(
        &mut self,
        core: &Core,
        served: &Served,
        converter: &Arc<Converter>,
        batch: &[&Record],
    ) -> Result<(), Status> {
        let mut missing = self.add_kept(core, served, converter, batch)?;
        if missing.is_empty() {
            return Ok(());
        }
        let _turn = match &**converter {
            Converter::Webhook(webhook) => Some(webhook.turn(served).await?),
            Converter::Declared(_) => None,
        };
        // Others may have had them converted while this one waited.
        missing = self.add_kept(core, served, converter, &missing)?;
        let to = served.api_version();
        let (mut asked, mut objects) = (Vec::new(), Vec::new());
        for record in missing {
            let object = convert::settled(record, served)?;
            // The version is not always where it is looked for first.
            if object.str_at(&["apiVersion"]) == Some(&*to) {
                self.put(core, record, json::to_vec(&object).into())?;
            } else {
                asked.push(record);
                objects.push(object);
            }
        }
        if objects.is_empty() {
            return Ok(());
        }
        let converted = converter.convert(core, &served.row, objects, &to).await?;
        for (record, object) in asked.into_iter().zip(converted) {
            let bytes = Bytes::from(json::to_vec(&object));
            if let Some(hold) = core.conversions.kept.take(bytes.len()) {
                facts::keep_converted(record, converter, served.version, &bytes, hold);
            }
            self.put(core, record, bytes)?;
        }
        Ok(())
    }

    /// Takes what is kept with the records; those without it are left.
    fn add_kept<'a>(
        &mut self,
        core: &Core,
        served: &Served,
        converter: &Arc<Converter>,
        records: &[&'a Record],
    ) -> Result<Vec<&'a Record>, Status> {
        let mut missing = Vec::new();
        for record in records {
            match facts::converted(record, converter, served.version) {
                Some(bytes) => self.put(core, record, bytes)?,
                None => missing.push(*record),
            }
        }
        Ok(missing)
    }

    fn put(&mut self, core: &Core, record: &Record, bytes: Bytes) -> Result<(), Status> {
        let room = &core.conversions.under_way;
        let hold = room.take(bytes.len()).ok_or_else(|| {
            let text = format!(
                "objects of {} bytes are being converted between versions, which is the limit; list fewer at once (limit=), \
                 or try again",
                room.limit()
            );
            Status::new(Reason::ServiceUnavailable, text)
        })?;
        self.objects.insert((record.key().clone(), record.mod_revision()), (bytes, hold));
        Ok(())
    }
}

/// How many of the records are converted at once: at least one.
fn batch(records: &[&Record]) -> usize {
    let mut bytes = 0;
    let fits = |record: &&&Record| {
        bytes += record.as_slice().len();
        bytes <= BATCH
    };
    records.iter().take(BATCH_OBJECTS).take_while(fits).count().max(1)
}
