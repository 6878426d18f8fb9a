//! The suite of the task table on DynamoDB's API, whoever serves it, and the other side of the tables that it needs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a conformance suite fails by panicking, and is part of no program"
)]

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use jobmill_aws::{DynamoClients, DynamoTables, DynamoTasks, MetaContext};
use jobmill_core::config::TaskWrites;
use jobmill_core::task::item::Task;
use jobmill_core::task::tables::Tables;
use jobmill_core::task::write::Table;
use serde_json::Value;

use crate::conformance::{self, Duplicates, Exception, TaskProbe};

/// Runs the suite of the task table on tables of those names, of which some checks are known to fail.
pub async fn tasks_conform(
    clients: DynamoClients,
    names: &Tables,
    writes: TaskWrites,
    exceptions: &[Exception],
) {
    let probe = DynamoProbe {
        client: clients.retrying.clone(),
        names: names.clone(),
    };
    let tasks = DynamoTasks::new(clients, names.clone(), writes).with_meta(meta_context());
    let duplicates = match writes {
        TaskWrites::Insert => Duplicates::Kept,
        TaskWrites::Overwrite => Duplicates::Replaced,
    };
    conformance::task_table_except(&tasks, &probe, "run", duplicates, exceptions).await;
}

/// Runs the suite of the tables as dispatching sees them, of which some checks are known to fail.
pub async fn tables_conform(
    clients: DynamoClients,
    names: &Tables,
    writes: TaskWrites,
    exceptions: &[Exception],
) {
    let tables = DynamoTables::new(clients, names.clone(), writes);
    conformance::tables_except(&tables, &names.fields, "dispatch", exceptions).await;
}

/// The CreateTable request of `config`, sosw's table of configurations.
#[must_use]
pub fn config_table() -> Value {
    serde_json::from_str(include_str!("../data/config_table.json")).unwrap()
}

/// What meta rows of the tests say about their writer.
#[must_use]
pub fn meta_context() -> MetaContext {
    MetaContext {
        author: "scheduler".to_owned(),
        invocation_id: "request".to_owned(),
        log_stream_name: "stream".to_owned(),
    }
}

/// Task tables in DynamoDB, as an orchestrator sees them.
#[derive(Debug, Clone)]
pub struct DynamoProbe {
    /// For reads, and writes that may be repeated.
    pub client: aws_sdk_dynamodb::Client,
    /// How tables and attributes are called.
    pub names: Tables,
}

impl DynamoProbe {
    fn table(&self, table: Table) -> &str {
        match table {
            Table::Tasks => &self.names.tasks,
            Table::Retry => &self.names.retry,
            Table::Closed => &self.names.closed,
        }
    }

    /// sosw's names of a task's attributes, whether they are numbers, and their names in these tables.
    fn fields(&self) -> [(&'static str, bool, &String); 6] {
        let names = &self.names.fields;
        [
            ("attempts", true, &names.attempts),
            ("created_at", true, &names.created_at),
            ("greenfield", true, &names.greenfield),
            ("labourer_id", false, &names.labourer_id),
            ("payload", false, &names.payload),
            ("task_id", false, &names.task_id),
        ]
    }

    /// An item by sosw's names. Panics if an attribute is missing, of another type, or one too many.
    fn attributes(&self, item: &HashMap<String, AttributeValue>) -> BTreeMap<String, String> {
        assert_eq!(item.len(), 6, "a task has six attributes: {item:?}");
        self.fields()
            .into_iter()
            .map(|(name, number, field)| match &item[field] {
                AttributeValue::N(text) if number => (name.to_owned(), text.clone()),
                AttributeValue::S(text) if !number => (name.to_owned(), text.clone()),
                other => panic!("attribute {name} is {other:?}"),
            })
            .collect()
    }

    /// The attributes of each item in the tasks table, by sosw's names, numbers as text.
    pub async fn scan(&self) -> Vec<BTreeMap<String, String>> {
        let request = self.client.scan().table_name(&self.names.tasks);
        let items: Vec<_> = request
            .into_paginator()
            .items()
            .send()
            .try_collect()
            .await
            .unwrap();
        items.iter().map(|item| self.attributes(item)).collect()
    }
}

impl TaskProbe for DynamoProbe {
    async fn read(&self, task_id: &str) -> Option<BTreeMap<String, String>> {
        let key = AttributeValue::S(task_id.to_owned());
        let request = self.client.get_item().table_name(&self.names.tasks);
        let request = request.key(&self.names.fields.task_id, key).consistent_read(true);
        let item = request.send().await.unwrap().item?;
        Some(self.attributes(&item))
    }

    async fn put(&self, table: Table, task: &Task) {
        let mut request = self.client.put_item().table_name(self.table(table));
        for (name, number, field) in self.fields() {
            let text = match name {
                "attempts" => "1".to_owned(),
                "created_at" => task.created_at.clone(),
                "greenfield" => task.greenfield.to_string(),
                "labourer_id" => task.labourer_id.clone(),
                "payload" => task.payload.clone(),
                _ => task.task_id.clone(),
            };
            let value = if number {
                AttributeValue::N(text)
            } else {
                AttributeValue::S(text)
            };
            request = request.item(field, value);
        }
        request.send().await.unwrap();
    }

    async fn remove(&self, table: Table, task: &Task) {
        let fields = &self.names.fields;
        let mut request = self.client.delete_item().table_name(self.table(table));
        request = request.key(&fields.task_id, AttributeValue::S(task.task_id.clone()));
        if table == Table::Retry {
            request = request.key(&fields.labourer_id, AttributeValue::S(task.labourer_id.clone()));
        }
        request.send().await.unwrap();
    }
}
